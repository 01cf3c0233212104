#include <arpa/inet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "tests/workloads/workload.h"

namespace {
// In a new network namespace nobody has done this yet.
void bring_loopback_up() {
  const int fd = MUST(socket(AF_INET, SOCK_DGRAM, 0));
  ifreq request{};
  strcpy(request.ifr_name, "lo");
  MUST(ioctl(fd, SIOCGIFFLAGS, &request));
  if (!(request.ifr_flags & IFF_UP)) {
    request.ifr_flags |= IFF_UP;
    MUST(ioctl(fd, SIOCSIFFLAGS, &request));
  }
  close(fd);
}
}  // namespace

WORKLOAD("a listening TCP socket keeps its port and its options, and takes connections") {
  bring_loopback_up();
  const int listener = MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  MUST(setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  MUST(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address));
  MUST(listen(listener, 16));
  socklen_t length = sizeof address;
  MUST(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length));
  workload::checkpoint_here();
  int value = 0;
  socklen_t size = sizeof value;
  MUST(getsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &value, &size));
  CHECK_EQ(value, 1);
  const int client = MUST(socket(AF_INET, SOCK_STREAM, 0));
  MUST(connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address));
  const int server = MUST(accept(listener, nullptr, nullptr));
  MUST(write(client, "hello", 5));
  char got[8];
  CHECK_EQ(MUST(read(server, got, sizeof got)), 5);
}
