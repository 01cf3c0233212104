#include "kernel/socket.h"

#include <algorithm>
#include <cstring>

#include "kernel/call.h"

namespace dormouse::sys {

Result<Fd> socket(int domain, int type, int protocol) {
  return new_fd("socket", [&] { return ::socket(domain, type | SOCK_CLOEXEC, protocol); });
}
Result<SocketPair> socketpair(int domain, int type, int protocol) {
  int ends[2];
  TRY(done("socketpair", [&] { return ::socketpair(domain, type | SOCK_CLOEXEC, protocol, ends); }));
  return SocketPair{Fd(ends[0]), Fd(ends[1])};
}

Result<> send_with_fds(int socket, std::span<const std::byte> bytes, std::span<const int> fds) {
  alignas(::cmsghdr) std::byte control[CMSG_SPACE(kMaxFdsPerMessage * sizeof(int))] = {};
  if (fds.size() > kMaxFdsPerMessage) {
    errno = E2BIG;
    return failed("sendmsg: descriptors");
  }
  ::iovec data{const_cast<std::byte*>(bytes.data()), bytes.size()};
  ::msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    ::cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  const ssize_t sent = retry([&] { return ::sendmsg(socket, &message, MSG_NOSIGNAL); });
  if (sent == -1) return failed("sendmsg");
  // A stream socket may take a part; the descriptors went with its first byte.
  bytes = bytes.subspan(static_cast<std::size_t>(sent));
  while (!bytes.empty()) {
    const ssize_t more =
        retry([&] { return ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL); });
    if (more == -1) return failed("send");
    bytes = bytes.subspan(static_cast<std::size_t>(more));
  }
  return {};
}

Result<Message> recv_with_fds(int socket, std::size_t max_bytes, std::size_t max_fds, int flags) {
  alignas(::cmsghdr) std::byte control[CMSG_SPACE(kMaxFdsPerMessage * sizeof(int)) +
                                       CMSG_SPACE(64)];
  Message answer;
  answer.bytes.resize(max_bytes);
  ::iovec data{answer.bytes.data(), answer.bytes.size()};
  ::msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t got = retry([&] { return ::recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC); });
  if (got == -1) return failed("recvmsg");

  // Take ownership of every descriptor first, so that none leaks on the error paths below.
  for (::cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      answer.fds.emplace_back(fd);
    }
  }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || answer.fds.size() > max_fds) {
    errno = EMSGSIZE;
    return failed("recvmsg");
  }
  answer.bytes.resize(static_cast<std::size_t>(got));
  return answer;
}

Result<std::size_t> next_message_size(int socket) {
  std::byte none[1];
  const ssize_t size =
      retry([&] { return ::recv(socket, none, sizeof none, MSG_PEEK | MSG_TRUNC); });
  if (size == -1) return failed("recv");
  return static_cast<std::size_t>(size);
}

Result<PeerCredentials> peer_credentials(int socket) {
  const auto peer = TRY(getsockopt<::ucred>(socket, SOL_SOCKET, SO_PEERCRED));
  return PeerCredentials{peer.pid, peer.uid, peer.gid};
}

Result<socklen_t> getsockopt_raw(int socket, int level, int name, void* value, socklen_t size) {
  TRY(done("getsockopt", [&] { return ::getsockopt(socket, level, name, value, &size); }));
  return size;
}
Result<> setsockopt_raw(int socket, int level, int name, const void* value, socklen_t size) {
  return done("setsockopt", [&] { return ::setsockopt(socket, level, name, value, size); });
}

}  // namespace dormouse::sys
