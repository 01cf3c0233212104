#include <fcntl.h>

#include "tests/workloads/workload.h"

WORKLOAD("each descriptor keeps its own close-on-exec flag, also two of one open file") {
  int pipe[2];
  MUST(pipe2(pipe, O_CLOEXEC));
  MUST(fcntl(pipe[1], F_SETFD, 0));
  const int file = MUST(open("data", O_RDWR | O_CREAT, 0644));
  const int twin = MUST(fcntl(file, F_DUPFD_CLOEXEC, 0));
  workload::checkpoint_here();
  CHECK_EQ(fcntl(pipe[0], F_GETFD), FD_CLOEXEC);
  CHECK_EQ(fcntl(pipe[1], F_GETFD), 0);
  CHECK_EQ(fcntl(file, F_GETFD), 0);
  CHECK_EQ(fcntl(twin, F_GETFD), FD_CLOEXEC);
}
