// driver: --moving
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

namespace {
[[noreturn]] void churn() {
  int pipe[2];
  MUST(pipe2(pipe, O_CLOEXEC));
  for (unsigned round = 0;; ++round) {
    const pid_t child = MUST(fork());
    if (child == 0) _exit(static_cast<int>(round % 200));
    // A pipe too, so that there is something more to be in the middle of.
    char byte = 0;
    MUST(write(pipe[1], &byte, 1));
    MUST(read(pipe[0], &byte, 1));
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(static_cast<unsigned>(WEXITSTATUS(status)), round % 200);
  }
}
}  // namespace

WORKLOAD("a process whose children come and go all the time is caught whatever moment it is") {
  const pid_t churner = MUST(fork());
  if (churner == 0) churn();
  workload::checkpoint_here();
  usleep(20'000);
  int status = 0;
  CHECK_EQ(waitpid(churner, &status, WNOHANG), 0);  // still at it
  MUST(kill(churner, SIGKILL));
  CHECK_EQ(waitpid(churner, &status, 0), churner);
}
