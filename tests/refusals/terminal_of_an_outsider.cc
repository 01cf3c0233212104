#include <fcntl.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

// Its master belongs to a process that is no descendant any more, and lives as long as the slave is open.
WORKLOAD("has a terminal whose other end is outside the tree") {
  const int master = MUST(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  MUST(grantpt(master));
  MUST(unlockpt(master));
  char name[64];
  CHECK_EQ(ptsname_r(master, name, sizeof name), 0);
  const int slave = MUST(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
  const pid_t middle = MUST(fork());
  if (middle == 0) {
    if (MUST(fork()) != 0) _exit(0);
    close(slave);
    char text[64];
    while (read(master, text, sizeof text) > 0) {}
    _exit(0);
  }
  MUST(waitpid(middle, nullptr, 0));
  close(master);
  workload::checkpoint_here();
  MUST(write(slave, "still there\n", 12));
}
