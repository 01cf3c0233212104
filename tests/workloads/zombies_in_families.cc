#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/workloads/clone.h"

namespace {

struct Shared {
  int ready[2];
  pid_t in_session, in_group;
};
Shared* shared;

void waits(int index) {
  workload::set(&shared->ready[index]);
  workload::wait_for_go_signal();
  _exit(0);
}

pid_t becomes_zombie(void (*body)()) {
  const pid_t pid = MUST(fork());
  if (pid == 0) {
    body();
    _exit(9);
  }
  siginfo_t info{};
  MUST(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
  return pid;
}

void dies_of(pid_t pid, int signal) {
  int status = 0;
  CHECK_EQ(MUST(waitpid(pid, &status, WNOHANG)), pid);
  CHECK(WIFSIGNALED(status));
  CHECK_EQ(WTERMSIG(status), signal);
}

}  // namespace

// The driver's process is no subreaper: the members end up with the init of the tree or of the machine.
// flavours: namespaces
WORKLOAD("zombies still lead their sessions and groups, and have died of the signals that killed them") {
  shared = workload::shared_object<Shared>();
  const rlimit no_core{0, 0};
  MUST(setrlimit(RLIMIT_CORE, &no_core));
  const pid_t session = becomes_zombie([] {
    MUST(setsid());
    const pid_t member = MUST(fork());
    if (member == 0) waits(0);
    shared->in_session = member;
    workload::wait_until(&shared->ready[0]);
  });
  const pid_t group = becomes_zombie([] {
    MUST(setpgid(0, 0));
    const pid_t member = MUST(fork());
    if (member == 0) waits(1);
    shared->in_group = member;
    workload::wait_until(&shared->ready[1]);
  });
  const pid_t fault = becomes_zombie([] { *static_cast<volatile int*>(nullptr) = 1; });
  const pid_t aborted = becomes_zombie([] { abort(); });
  const pid_t realtime = becomes_zombie([] { raise(SIGRTMIN + 3); });
  workload::checkpoint_here();
  CHECK_EQ(getsid(shared->in_session), session);
  CHECK_EQ(getpgid(shared->in_session), session);
  CHECK_EQ(getpgid(shared->in_group), group);
  CHECK_EQ(getpgid(group), group);
  CHECK_EQ(getsid(session), session);
  dies_of(fault, SIGSEGV);
  dies_of(aborted, SIGABRT);
  dies_of(realtime, SIGRTMIN + 3);
  int status = 0;
  CHECK_EQ(MUST(waitpid(session, &status, WNOHANG)), session);
  CHECK_EQ(WEXITSTATUS(status), 9);
  workload::tell_to_go(shared->in_session);
  workload::tell_to_go(shared->in_group);
}
