#include <signal.h>
#include <sys/socket.h>

#include "tests/workloads/workload.h"

WORKLOAD("a direction that was shut down stays so, and what was sent before it, or before the end, is still there") {
  int half[2], gone[2], packets[2];
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, half));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, gone));
  MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets));
  MUST(write(half[0], "before", 6));
  MUST(shutdown(half[0], SHUT_WR));
  MUST(write(gone[1], "the end", 7));
  close(gone[1]);
  MUST(write(packets[1], "one", 3));
  MUST(write(packets[1], "two", 3));
  close(packets[1]);
  signal(SIGPIPE, SIG_IGN);
  workload::checkpoint_here();
  char got[16];
  CHECK_EQ(MUST(read(half[1], got, sizeof got)), 6);
  CHECK_EQ(MUST(read(half[1], got, sizeof got)), 0);
  CHECK(write(half[0], "x", 1) == -1 && errno == EPIPE);
  MUST(write(half[1], "still", 5));
  CHECK_EQ(MUST(read(half[0], got, sizeof got)), 5);
  CHECK_EQ(MUST(read(gone[0], got, sizeof got)), 7);
  CHECK_EQ(MUST(read(gone[0], got, sizeof got)), 0);
  CHECK(write(gone[0], "x", 1) == -1 && errno == EPIPE);
  CHECK_EQ(MUST(read(packets[0], got, sizeof got)), 3);
  CHECK_EQ(MUST(read(packets[0], got, sizeof got)), 3);
  CHECK_EQ(MUST(read(packets[0], got, sizeof got)), 0);
}
