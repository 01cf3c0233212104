// driver: --option=--file-locks
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

namespace {
// Until the process sleeps in that call (fcntl is 72, flock 73).
void wait_until_in(pid_t pid, const char* call) {
  char path[64], line[64] = "";
  snprintf(path, sizeof path, "/proc/%d/syscall", pid);
  while (strncmp(line, call, strlen(call)) != 0) {
    FILE* const file = MUST(fopen(path, "re"));
    if (fgets(line, sizeof line, file) == nullptr) line[0] = 0;
    fclose(file);
    usleep(1000);
  }
}
bool has_ended(pid_t pid) {
  int status = 0;
  return MUST(waitpid(pid, &status, WNOHANG)) == pid;
}
pid_t child_that(void (*takes)()) {
  const pid_t pid = MUST(fork());
  if (pid == 0) {
    takes();
    _exit(7);
  }
  return pid;
}
void end_well(pid_t pid) {
  int status = 0;
  CHECK_EQ(MUST(waitpid(pid, &status, 0)), pid);
  CHECK_EQ(status, 7 << 8);
}
}  // namespace

WORKLOAD("who waits for a lock that another process holds gets it when that one gives it up, and not before") {
  const int file = MUST(open("ranged", O_RDWR | O_CREAT, 0644)), whole = MUST(open("whole", O_RDWR | O_CREAT, 0644));
  struct flock range{};
  range.l_type = F_WRLCK;
  range.l_len = 10;
  MUST(fcntl(file, F_SETLK, &range));
  MUST(flock(whole, LOCK_EX));
  const pid_t one = child_that([] {
    const int mine = MUST(open("ranged", O_RDWR));
    struct flock wanted{};
    wanted.l_type = F_WRLCK;
    wanted.l_start = 5;
    wanted.l_len = 1;
    MUST(fcntl(mine, F_SETLKW, &wanted));
  });
  const pid_t other = child_that([] { MUST(flock(MUST(open("whole", O_RDWR)), LOCK_SH)); });
  wait_until_in(one, "72 ");
  wait_until_in(other, "73 ");
  workload::checkpoint_here();
  wait_until_in(one, "72 ");
  wait_until_in(other, "73 ");
  CHECK(!has_ended(one));
  CHECK(!has_ended(other));
  range.l_type = F_UNLCK;
  MUST(fcntl(file, F_SETLK, &range));
  end_well(one);
  MUST(flock(whole, LOCK_UN));
  end_well(other);
}
