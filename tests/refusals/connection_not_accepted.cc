#include <sys/socket.h>
#include <sys/un.h>

#include "tests/workloads/workload.h"

WORKLOAD("has data on a connection that nobody accepted yet") {
  const int listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un name{AF_UNIX, "listener"};
  MUST(bind(listener, reinterpret_cast<sockaddr*>(&name), sizeof name));
  MUST(listen(listener, 5));
  const int client = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
  MUST(connect(client, reinterpret_cast<sockaddr*>(&name), sizeof name));
  MUST(write(client, "early", 5));
  workload::checkpoint_here();
  const int server = MUST(accept(listener, nullptr, nullptr));
  char got[8];
  CHECK_EQ(MUST(read(server, got, sizeof got)), 5);
}
