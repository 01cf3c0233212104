#include <sys/socket.h>
#include <sys/un.h>

#include "tests/workloads/workload.h"

static int bound(const char* path) {
  const int fd = MUST(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
  sockaddr_un name{AF_UNIX, ""};
  strcpy(name.sun_path, path);
  MUST(bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name));
  return fd;
}

static void connect_to(int fd, const char* path) {
  sockaddr_un name{AF_UNIX, ""};
  strcpy(name.sun_path, path);
  MUST(connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof name));
}

static void expect(int fd, const char* text) {
  char got[64] = {};
  CHECK_EQ(MUST(read(fd, got, sizeof got)), static_cast<ssize_t>(strlen(text)));
  CHECK_EQ(std::string_view(got), text);
}

WORKLOAD("datagram sockets keep their names, whom they send to, and each message that waits") {
  const int server = bound("server"), middle = bound("middle");
  const int client = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
  connect_to(client, "middle");
  connect_to(middle, "server");  // from now on nobody else could connect to it, nor send to it
  CHECK(write(client, "unwanted", 8) == -1 && errno == EPERM);
  const int other = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
  connect_to(other, "server");
  MUST(write(other, "one", 3));
  MUST(write(middle, "three", 5));
  int pair[2];
  MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair));
  for (int i = 0; i < 30; ++i) MUST(write(pair[0], &i, sizeof i));
  int gone[2];
  MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, gone));
  MUST(write(gone[1], "last words", 10));
  close(gone[1]);
  workload::checkpoint_here();
  expect(server, "one");
  expect(server, "three");
  CHECK(read(server, pair, 4) == -1 && errno == EAGAIN);
  MUST(write(middle, "more", 4));
  expect(server, "more");
  MUST(write(other, "and more", 8));
  expect(server, "and more");
  for (int i = 0; i < 30; ++i) {
    int got = -1;
    CHECK_EQ(MUST(read(pair[1], &got, sizeof got)), 4);
    CHECK_EQ(got, i);
  }
  MUST(write(pair[1], "back", 4));
  expect(pair[0], "back");
  expect(gone[0], "last words");
  CHECK(write(gone[0], "?", 1) == -1 && errno == ECONNREFUSED);
  sockaddr_un name{};
  socklen_t size = sizeof name;
  MUST(getpeername(middle, reinterpret_cast<sockaddr*>(&name), &size));
  CHECK_EQ(std::string_view(name.sun_path), "server");
}
