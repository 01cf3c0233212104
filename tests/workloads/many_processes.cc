#include "tests/workloads/workload.h"

WORKLOAD("a hundred processes stay") {
  pid_t children[100];
  for (pid_t& child : children) {
    child = workload::fork_child([] {
      const pid_t self = getpid();
      workload::checkpoint_here();
      CHECK_EQ(getpid(), self);
    });
  }
  workload::checkpoint_here();
  for (pid_t child : children) workload::join(child);
}
