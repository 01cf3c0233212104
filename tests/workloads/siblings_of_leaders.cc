#include <sys/wait.h>

#include "tests/workloads/clone.h"

namespace {

struct Sibling {
  int ready;
  pid_t pid, sid;
};
struct Shared {
  Sibling leader, of_leader, of_dead_leader;
};
Shared* shared;
volatile sig_atomic_t told, told_otherwise;

int be(void* member) {
  auto& self = *static_cast<Sibling*>(member);
  self.pid = getpid(), self.sid = getsid(0);
  workload::set(&self.ready);
  workload::wait_for_go_signal();
  CHECK_EQ(getsid(0), self.sid);
  return 3;
}

void bear_sibling(Sibling& sibling) {
  workload::clone_child(be, CLONE_PARENT, &sibling);
  workload::wait_until(&sibling.ready);
}

int lead(void*) {
  MUST(setsid());
  bear_sibling(shared->of_leader);
  return be(&shared->leader);
}

int lead_and_end(void*) {
  MUST(setsid());
  bear_sibling(shared->of_dead_leader);
  return 0;
}

void expect_end(const Sibling& sibling) {
  const int told_before = told;
  MUST(kill(sibling.pid, workload::kGo));
  int status = 0;
  CHECK_EQ(MUST(waitpid(sibling.pid, &status, __WALL)), sibling.pid);
  CHECK_EQ(WEXITSTATUS(status), 3);
  CHECK_EQ(static_cast<int>(told), told_before + 1);
}

}  // namespace

WORKLOAD("a child that was born of another child (CLONE_PARENT) in a session of its own tells its parent by the same signal") {
  shared = workload::shared_object<Shared>();
  struct sigaction action{};
  action.sa_flags = SA_RESTART;
  action.sa_handler = [](int) { told = told + 1; };
  MUST(sigaction(SIGUSR1, &action, nullptr));
  action.sa_handler = [](int) { told_otherwise = told_otherwise + 1; };
  MUST(sigaction(SIGCHLD, &action, nullptr));
  workload::clone_child(lead, SIGUSR1);
  const pid_t gone = workload::clone_child(lead_and_end, SIGUSR1);
  CHECK_EQ(MUST(waitpid(gone, nullptr, __WALL)), gone);
  workload::wait_until(&shared->leader.ready);
  CHECK_EQ(shared->of_dead_leader.sid, gone);
  workload::checkpoint_here();
  expect_end(shared->of_leader);
  expect_end(shared->leader);
  expect_end(shared->of_dead_leader);
  CHECK_EQ(static_cast<int>(told_otherwise), 0);
  CHECK_EQ(waitpid(-1, nullptr, WNOHANG | __WALL), -1);
}
