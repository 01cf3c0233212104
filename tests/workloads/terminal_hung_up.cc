// lock: terminals
#include <fcntl.h>
#include <sys/ioctl.h>

#include "tests/workloads/terminals.h"

WORKLOAD("what is left of a terminal whose other end is closed: descriptors at their end") {
  const auto [master, name] = open_master();
  const int first = MUST(open(name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  const int second = MUST(open(name.c_str(), O_RDONLY | O_NOCTTY | O_CLOEXEC));
  MUST(close(master));
  workload::checkpoint_here();
  char byte = 0;
  CHECK_EQ(MUST(read(first, &byte, 1)), 0);
  CHECK_EQ(MUST(read(second, &byte, 1)), 0);
  CHECK_EQ(write(first, &byte, 1), -1);
  CHECK_EQ(errno, EIO);
}
