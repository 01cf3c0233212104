#include <signal.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

WORKLOAD("a stopped process stays stopped, and runs when it is told to") {
  const pid_t child = workload::fork_child([] {
    workload::checkpoint_here();
  });
  MUST(kill(child, SIGSTOP));
  siginfo_t info{};
  MUST(waitid(P_PID, child, &info, WSTOPPED | WNOWAIT));
  CHECK_EQ(info.si_code, CLD_STOPPED);
  workload::checkpoint_here();
  // The go signal alone must not wake it.
  workload::tell_to_go(child);
  usleep(20'000);
  char path[64], text[512] = {};
  snprintf(path, sizeof path, "/proc/%d/stat", child);
  FILE* stat = MUST(fopen(path, "re"));
  CHECK(fgets(text, sizeof text, stat) != nullptr);
  fclose(stat);
  CHECK_EQ(strrchr(text, ')')[2], 'T');
  MUST(kill(child, SIGCONT));
  workload::wait_for_success(child);
}
