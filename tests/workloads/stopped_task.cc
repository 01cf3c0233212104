#include <signal.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

WORKLOAD("a stopped process stays stopped, and runs when it is told to") {
  constexpr size_t kMuch = 24 << 20;  // so much that more than one thread is put to work on it elsewhere
  const pid_t child = workload::fork_child([] {
    char* memory = static_cast<char*>(malloc(kMuch));
    workload::fill_pattern(memory, kMuch, 7);
    workload::checkpoint_here();
    CHECK(workload::has_pattern(memory, kMuch, 7));
  });
  MUST(kill(child, SIGSTOP));
  siginfo_t info{};
  MUST(waitid(P_PID, child, &info, WSTOPPED | WNOWAIT));
  CHECK_EQ(info.si_code, CLD_STOPPED);
  MUST(kill(child, SIGSTOP));  // once more; SIGCONT takes this one away, too
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
