#include "netns/socket_diag.h"

#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

namespace dormouse::netns {
namespace {

TEST(SocketDiagTest, FindsAPairOfThisProcess) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
  ASSERT_EQ(::write(ends[0], "seven b", 7), 7);
  ::shutdown(ends[1], SHUT_WR);
  struct stat one, other;
  ::fstat(ends[0], &one);
  ::fstat(ends[1], &other);
  auto socket = open_diag_socket();
  ASSERT_TRUE(socket) << socket.error().message();
  auto all = list_unix_sockets(*socket);
  ASSERT_TRUE(all) << all.error().message();
  const UnixSocket& found = all->at(static_cast<std::uint32_t>(other.st_ino));
  EXPECT_EQ(found.peer, one.st_ino);
  EXPECT_EQ(found.type, SOCK_SEQPACKET);
  EXPECT_EQ(found.state, 1);
  EXPECT_EQ(found.receive_queue, 7u);
  EXPECT_EQ(found.shutdown, 2u);
  EXPECT_EQ(found.name, "");
  EXPECT_EQ(all->at(static_cast<std::uint32_t>(one.st_ino)).shutdown, 1u);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(SocketDiagTest, RefusesNonsense) {
  UnixSockets into;
  nlmsghdr head{};
  const auto parse = [&](std::size_t bytes) {
    return parse_unix_answer(std::as_bytes(std::span(&head, 1)).first(bytes), into);
  };
  head.nlmsg_len = 1000;
  EXPECT_FALSE(parse(sizeof head));
  head.nlmsg_len = 3;
  EXPECT_FALSE(parse(sizeof head));
  head.nlmsg_len = sizeof head;
  head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  EXPECT_FALSE(parse(sizeof head));
  head.nlmsg_type = NLMSG_DONE;
  const auto last = parse(sizeof head);
  ASSERT_TRUE(last);
  EXPECT_TRUE(*last);
}

TEST(SocketDiagTest, AnAttributeBeyondTheMessageIsRefused) {
  struct {
    nlmsghdr head;
    unix_diag_msg body;
    unsigned short length, type;
  } packet{};
  packet.head.nlmsg_len = sizeof packet;
  packet.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  packet.length = 400;
  packet.type = UNIX_DIAG_NAME;
  UnixSockets into;
  EXPECT_FALSE(parse_unix_answer(std::as_bytes(std::span(&packet, 1)), into));
}

}  // namespace
}  // namespace dormouse::netns
