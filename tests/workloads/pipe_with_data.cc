#include <fcntl.h>
#include <sys/ioctl.h>

#include "tests/workloads/workload.h"

WORKLOAD("a pipe keeps the bytes in it, its size, its flags, and tells its ends apart") {
  int ends[2], empty[2], half[2];
  MUST(pipe2(ends, O_CLOEXEC | O_NONBLOCK));
  const int capacity = MUST(fcntl(ends[1], F_SETPIPE_SZ, 256 << 10));
  char data[100'000];
  workload::fill_pattern(data, sizeof data, 1);
  CHECK_EQ(MUST(write(ends[1], data, sizeof data)), static_cast<ssize_t>(sizeof data));
  MUST(pipe(empty));
  MUST(pipe(half));
  MUST(write(half[1], "rest", 4));
  MUST(close(half[1]));

  workload::checkpoint_here();

  CHECK_EQ(fcntl(ends[0], F_GETPIPE_SZ), capacity);
  CHECK_EQ(fcntl(ends[0], F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_NONBLOCK | O_RDONLY);
  CHECK_EQ(fcntl(ends[1], F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_NONBLOCK | O_WRONLY);
  CHECK_EQ(fcntl(empty[0], F_GETFL) & O_NONBLOCK, 0);
  int waiting = 0;
  MUST(ioctl(ends[0], FIONREAD, &waiting));
  CHECK_EQ(waiting, static_cast<int>(sizeof data));
  char got[sizeof data];
  CHECK_EQ(MUST(read(ends[0], got, sizeof got)), static_cast<ssize_t>(sizeof got));
  CHECK(memcmp(got, data, sizeof data) == 0);
  CHECK_EQ(read(ends[0], got, 1), -1);
  CHECK_EQ(errno, EAGAIN);
  MUST(write(empty[1], "x", 1));
  CHECK_EQ(MUST(read(empty[0], got, 10)), 1);
  // The write end was closed before: the rest, then the end of the file.
  CHECK_EQ(MUST(read(half[0], got, 10)), 4);
  CHECK(memcmp(got, "rest", 4) == 0);
  CHECK_EQ(MUST(read(half[0], got, 10)), 0);
}
