#include <fcntl.h>

#include "tests/workloads/workload.h"

WORKLOAD("has a file of /proc open that belongs to a process outside the tree") {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", getppid());
  MUST(open(path, O_RDONLY));
  workload::checkpoint_here();
}
