// lock: terminals
#include <signal.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

WORKLOAD("a process that a terminal's signal stopped stays so, and its parent can see which signal it was") {
  const pid_t child = workload::fork_child([] { workload::checkpoint_here(); });
  // A group of its own below a parent in another one: no orphaned group, which such signals do not stop.
  MUST(setpgid(child, child));
  siginfo_t info{};
  MUST(kill(child, SIGTSTP));
  MUST(waitid(P_PID, child, &info, WSTOPPED | WNOWAIT));
  CHECK_EQ(info.si_status, SIGTSTP);
  workload::checkpoint_here();
  info = {};
  MUST(waitid(P_PID, child, &info, WSTOPPED | WNOWAIT | WNOHANG));
  CHECK_EQ(info.si_pid, child);
  CHECK_EQ(info.si_code, CLD_STOPPED);
  CHECK_EQ(info.si_status, SIGTSTP);
  MUST(kill(child, SIGCONT));
  workload::join(child);
}
