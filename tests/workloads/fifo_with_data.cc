#include <fcntl.h>
#include <sys/stat.h>

#include "tests/workloads/workload.h"

WORKLOAD("a named pipe keeps the bytes in it and is found by its name") {
  MUST(mkfifo("fifo", 0600));
  const int both = MUST(open("fifo", O_RDWR | O_CLOEXEC));
  const int reader = MUST(open("fifo", O_RDONLY | O_NONBLOCK));
  const int writer = MUST(open("fifo", O_WRONLY));
  MUST(write(writer, "in flight", 9));
  workload::checkpoint_here();
  CHECK_EQ(fcntl(reader, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY | O_NONBLOCK);
  CHECK_EQ(fcntl(writer, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_WRONLY);
  char got[64] = {};
  CHECK_EQ(MUST(read(reader, got, sizeof got)), 9);
  CHECK_EQ(got, "in flight");
  const int again = MUST(open("fifo", O_WRONLY | O_NONBLOCK));
  MUST(write(again, "new", 3));
  CHECK_EQ(MUST(read(both, got, sizeof got)), 3);
}
