#include <fcntl.h>
#include <sched.h>

#include "tests/workloads/workload.h"

WORKLOAD("holds a descriptor of a namespace that nobody lives in any more") {
  MUST(unshare(CLONE_NEWUTS));
  MUST(open("/proc/self/ns/uts", O_RDONLY));
  MUST(unshare(CLONE_NEWUTS));
  workload::checkpoint_here();
}
