#include <sys/syscall.h>

#include "tests/workloads/workload.h"

WORKLOAD("holds a pidfd of a process outside the tree") {
  MUST(syscall(SYS_pidfd_open, getppid(), 0));
  workload::checkpoint_here();
}
