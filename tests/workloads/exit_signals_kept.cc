#include <sys/wait.h>

#include "tests/workloads/clone.h"

namespace {

int ready[2];

int waits(void* flag) {
  workload::set(static_cast<int*>(flag));
  workload::wait_for_go_signal();
  return 3;
}

volatile sig_atomic_t told = 0;

}  // namespace

WORKLOAD("a child tells its parent of its end by the signal it was cloned with, or by none") {
  struct sigaction action{};
  action.sa_handler = [](int) { told = told + 1; };
  MUST(sigaction(SIGUSR1, &action, nullptr));
  // In their parent's memory, since the flags are there.
  const pid_t loud = workload::clone_child(waits, CLONE_VM | SIGUSR1, &ready[0]);
  const pid_t quiet = workload::clone_child(waits, CLONE_VM, &ready[1]);
  workload::wait_until(&ready[0]);
  workload::wait_until(&ready[1]);
  workload::checkpoint_here();
  int status = 0;
  MUST(kill(quiet, workload::kGo));
  CHECK_EQ(MUST(waitpid(quiet, &status, __WALL)), quiet);
  CHECK_EQ(WEXITSTATUS(status), 3);
  CHECK_EQ(static_cast<int>(told), 0);
  MUST(kill(loud, workload::kGo));
  CHECK_EQ(MUST(waitpid(loud, &status, __WALL)), loud);
  CHECK_EQ(static_cast<int>(told), 1);
}
