#include <fcntl.h>
#include <sys/eventfd.h>

#include "tests/workloads/clone.h"

namespace {

struct Shared {
  int ready[3];
  int brother;
};
Shared* shared;

// Shares the table of the first process.
int with_parent(void*) {
  workload::set(&shared->ready[0]);
  workload::wait_for_go_signal();
  CHECK_EQ(fcntl(70, F_GETFD), FD_CLOEXEC);
  MUST(close(70));
  CHECK_EQ(MUST(dup2(71, 72)), 72);
  return 0;
}

int second_brother(void*) {
  workload::set(&shared->ready[2]);
  workload::wait_for_go_signal();
  CHECK_EQ(MUST(dup2(80, 81)), 81);
  return 0;
}

// Its table is its own and, from then on, its brother's, who is a child of its parent.
int first_brother(void*) {
  CHECK_EQ(MUST(dup2(71, 80)), 80);
  shared->brother = workload::clone_child(second_brother, CLONE_FILES | CLONE_PARENT | SIGCHLD);
  workload::set(&shared->ready[1]);
  workload::wait_for_go_signal();
  CHECK_EQ(fcntl(81, F_GETFD), 0);
  return 0;
}

}  // namespace

WORKLOAD("a descriptor table that several processes share stays one table") {
  shared = workload::shared_object<Shared>();
  CHECK_EQ(MUST(dup3(MUST(eventfd(5, 0)), 70, O_CLOEXEC)), 70);
  CHECK_EQ(MUST(dup2(MUST(open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600)), 71)), 71);
  const pid_t child = workload::clone_child(with_parent, CLONE_FILES | SIGCHLD);
  const pid_t first = workload::clone_child(first_brother, SIGCHLD);
  for (const int& ready : shared->ready) workload::wait_until(&ready);
  workload::checkpoint_here();
  workload::tell_to_go(child);
  workload::wait_for_success(child);
  CHECK_EQ(fcntl(70, F_GETFD), -1);
  CHECK_EQ(fcntl(72, F_GETFD), 0);
  workload::tell_to_go(shared->brother);
  workload::wait_for_success(shared->brother);
  workload::tell_to_go(first);
  workload::wait_for_success(first);
  CHECK_EQ(fcntl(81, F_GETFD), -1);
}
