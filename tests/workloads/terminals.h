// For workloads with terminals of their own.
#pragma once

#include <fcntl.h>
#include <stdlib.h>

#include <string>

#include "tests/workloads/workload.h"

struct Master {
  int fd;
  std::string slave;  // its path
};

// Skips the workload where there is no /dev/ptmx.
inline Master open_master() {
  const int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) workload::skip("there is no /dev/ptmx here");
  MUST(grantpt(fd));
  MUST(unlockpt(fd));
  char name[64];
  CHECK_EQ(ptsname_r(fd, name, sizeof name), 0);
  return {fd, name};
}
