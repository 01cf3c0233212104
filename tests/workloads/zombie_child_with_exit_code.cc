#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

WORKLOAD("children that ended and were not waited for keep their pids and how they ended") {
  const rlimit no_core{0, 0};
  MUST(setrlimit(RLIMIT_CORE, &no_core));
  const pid_t exited = workload::fork_child([] { _exit(42); });
  const pid_t killed = workload::fork_child([] { raise(SIGKILL); });
  siginfo_t info{};
  MUST(waitid(P_PID, exited, &info, WEXITED | WNOWAIT));
  MUST(waitid(P_PID, killed, &info, WEXITED | WNOWAIT));
  workload::checkpoint_here();
  int status = 0;
  CHECK_EQ(MUST(waitpid(exited, &status, WNOHANG)), exited);
  CHECK(WIFEXITED(status));
  CHECK_EQ(WEXITSTATUS(status), 42);
  CHECK_EQ(MUST(waitpid(killed, &status, WNOHANG)), killed);
  CHECK(WIFSIGNALED(status));
  CHECK_EQ(WTERMSIG(status), SIGKILL);
}
