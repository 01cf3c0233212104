#include <sys/prctl.h>

#include "tests/workloads/workload.h"

WORKLOAD("a process that may not dump core stays so, and one that may stays so") {
  const pid_t child = workload::fork_child([] {
    MUST(prctl(PR_SET_DUMPABLE, 0));
    workload::checkpoint_here();
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
  });
  workload::checkpoint_here();
  CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
  workload::join(child);
}
