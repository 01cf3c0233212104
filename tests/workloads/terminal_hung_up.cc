// lock: terminals
#include <fcntl.h>
#include <sys/ioctl.h>

#include "tests/workloads/workload.h"

WORKLOAD("what is left of a terminal whose other end is closed: descriptors at their end") {
  const int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0) workload::skip("there is no /dev/ptmx here");
  MUST(grantpt(master));
  MUST(unlockpt(master));
  char name[64];
  CHECK_EQ(ptsname_r(master, name, sizeof name), 0);
  const int first = MUST(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
  const int second = MUST(open(name, O_RDONLY | O_NOCTTY | O_CLOEXEC));
  MUST(close(master));
  workload::checkpoint_here();
  char byte = 0;
  CHECK_EQ(MUST(read(first, &byte, 1)), 0);
  CHECK_EQ(MUST(read(second, &byte, 1)), 0);
  CHECK_EQ(write(first, &byte, 1), -1);
  CHECK_EQ(errno, EIO);
}
