#include <sys/socket.h>
#include <sys/un.h>

#include "tests/workloads/workload.h"

WORKLOAD("connections that wait to be accepted still wait, and a full backlog is still full") {
  const int listener = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
  sockaddr_un name{AF_UNIX, "waiting-room"};
  MUST(bind(listener, reinterpret_cast<sockaddr*>(&name), sizeof name));
  MUST(listen(listener, 1));
  int clients[2];
  for (int& client : clients) {
    client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
    MUST(connect(client, reinterpret_cast<sockaddr*>(&name), sizeof name));
  }
  const int late = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
  workload::checkpoint_here();
  CHECK(connect(late, reinterpret_cast<sockaddr*>(&name), sizeof name) == -1 && errno == EAGAIN);
  for (const int client : clients) {
    const int server = MUST(accept(listener, nullptr, nullptr));
    char got[8];
    MUST(write(client, "hello", 5));
    CHECK_EQ(MUST(read(server, got, sizeof got)), 5);
    MUST(write(server, "you", 3));
    CHECK_EQ(MUST(read(client, got, sizeof got)), 3);
  }
  CHECK(accept(listener, nullptr, nullptr) == -1 && errno == EAGAIN);
  MUST(connect(late, reinterpret_cast<sockaddr*>(&name), sizeof name));
}
