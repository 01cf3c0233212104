#include <sys/socket.h>

#include "tests/workloads/workload.h"

WORKLOAD("connected unix sockets keep the bytes and messages in them, in both directions") {
  int stream[2], datagram[2];
  MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream));
  MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, datagram));
  MUST(write(stream[0], "there", 5));
  MUST(write(stream[1], "back", 4));
  MUST(write(datagram[0], "one", 3));
  MUST(write(datagram[0], "three", 5));
  workload::checkpoint_here();
  char got[32];
  CHECK_EQ(MUST(read(stream[1], got, sizeof got)), 5);
  CHECK(memcmp(got, "there", 5) == 0);
  CHECK_EQ(MUST(read(stream[0], got, sizeof got)), 4);
  CHECK_EQ(MUST(read(datagram[1], got, sizeof got)), 3);
  CHECK_EQ(MUST(read(datagram[1], got, sizeof got)), 5);
  MUST(write(stream[0], "more", 4));
  CHECK_EQ(MUST(read(stream[1], got, sizeof got)), 4);
}
