#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/workloads/workload.h"

struct Name {
  sockaddr_un address{AF_UNIX, ""};
  socklen_t size = sizeof(sa_family_t);
  explicit Name(std::string_view text) {
    memcpy(address.sun_path, text.data(), text.size());
    size += static_cast<socklen_t>(text.size());
  }
  Name() { size = sizeof address; }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&address); }
  std::string_view text() const { return {address.sun_path, size - sizeof(sa_family_t)}; }
};

static int listener(Name name) {
  const int fd = MUST(socket(AF_UNIX, SOCK_SEQPACKET, 0));
  MUST(bind(fd, name.get(), name.size));
  MUST(listen(fd, 3));
  return fd;
}

static void expect_name(int fd, std::string_view name) {
  Name own;
  MUST(getsockname(fd, own.get(), &own.size));
  CHECK_EQ(own.text(), name);
}

static void expect_peer_name(int fd, std::string_view name) {
  Name peer;
  MUST(getpeername(fd, peer.get(), &peer.size));
  CHECK_EQ(peer.text(), name);
}

static int connect_to(Name name) {
  const int fd = MUST(socket(AF_UNIX, SOCK_SEQPACKET, 0));
  MUST(connect(fd, name.get(), name.size));
  return fd;
}

WORKLOAD("names stay: relative, abstract with any bytes, chosen by the kernel, deleted, replaced; and who was accepted under them") {
  char unique[64];
  // Abstract names are the network namespace's; the directory is this run's alone.
  struct stat here{};
  MUST(stat(".", &here));
  const int size = snprintf(unique, sizeof unique, "%cdormouse-%lu-%lu%c.", '\0', here.st_dev, here.st_ino, '\0');
  const std::string_view abstract(unique, static_cast<size_t>(size));
  MUST(mkdir("sub", 0755));
  MUST(chdir("sub"));
  const int relative = listener(Name(std::string_view("here\0", 5)));
  MUST(chmod("here", 0640));
  const int deleted = listener(Name(std::string_view("gone\0", 5)));
  MUST(unlink("gone"));
  const int replaced = listener(Name(std::string_view("taken\0", 6)));
  MUST(unlink("taken"));
  const int taker = MUST(open("taken", O_WRONLY | O_CREAT, 0600));
  MUST(chdir(".."));
  const int by_name = listener(Name(abstract));
  const int automatic = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
  sa_family_t family = AF_UNIX;
  MUST(bind(automatic, reinterpret_cast<sockaddr*>(&family), sizeof family));
  Name chosen;
  MUST(getsockname(automatic, chosen.get(), &chosen.size));
  const int client = connect_to(Name(abstract));
  const int server = MUST(accept(by_name, nullptr, nullptr));
  workload::checkpoint_here();
  expect_name(relative, std::string_view("here\0", 5));
  expect_name(deleted, std::string_view("gone\0", 5));
  expect_name(replaced, std::string_view("taken\0", 6));
  expect_name(by_name, abstract);
  expect_name(automatic, chosen.text());
  expect_name(server, abstract);
  expect_peer_name(client, abstract);
  CHECK_EQ(access("sub/gone", F_OK), -1);
  struct stat st{}, other{};
  MUST(stat("sub/here", &st));
  CHECK(S_ISSOCK(st.st_mode));
  CHECK_EQ(st.st_mode & 0777, 0640u);
  MUST(stat("sub/taken", &st));
  MUST(fstat(taker, &other));
  CHECK_EQ(st.st_ino, other.st_ino);
  MUST(write(client, "hello", 5));
  char got[8];
  CHECK_EQ(MUST(read(server, got, sizeof got)), 5);
  MUST(close(connect_to(Name(abstract))));
  MUST(close(connect_to(Name("sub/here"))));
}
