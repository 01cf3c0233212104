// Sockets: what a broker of descriptors needs. Addresses and options of saved sockets are the
// business of the rooms that save them.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace dormouse::sys {

Result<Fd> socket(int domain, int type, int protocol = 0);
struct SocketPair {
  Fd one, other;
};
Result<SocketPair> socketpair(int domain, int type, int protocol = 0);

// The kernel takes at most 253 descriptors in one message (SCM_MAX_FD).
inline constexpr std::size_t kMaxFdsPerMessage = 253;

// One message with descriptors. `bytes` must not be empty: an empty stream message carries nothing.
// SIGPIPE is never raised; a closed peer is EPIPE.
[[nodiscard]] Result<> send_with_fds(int socket, std::span<const std::byte> bytes,
                                     std::span<const int> fds);
struct Message {
  std::vector<std::byte> bytes;  // empty: the peer has closed
  std::vector<Fd> fds;
};
// One message of at most `max_bytes`. A message or descriptor list that did not fit is EMSGSIZE, not a
// silently shortened one.
Result<Message> recv_with_fds(int socket, std::size_t max_bytes,
                              std::size_t max_fds = kMaxFdsPerMessage, int flags = 0);
// Size of the next datagram or packet, which stays in the queue. Blocks until there is one; 0: closed.
Result<std::size_t> next_message_size(int socket);

// Who was at the other end when the connection was made; for socketpair(), who called it.
struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};
Result<PeerCredentials> peer_credentials(int socket);

Result<socklen_t> getsockopt_raw(int socket, int level, int name, void* value, socklen_t size);
[[nodiscard]] Result<> setsockopt_raw(int socket, int level, int name, const void* value, socklen_t size);
template <class T>
Result<T> getsockopt(int socket, int level, int name) {
  T value{};
  auto got = getsockopt_raw(socket, level, name, &value, sizeof value);
  if (!got) return std::unexpected(std::move(got).error());
  return value;
}
template <class T>
[[nodiscard]] Result<> setsockopt(int socket, int level, int name, const T& value) {
  return setsockopt_raw(socket, level, name, &value, sizeof value);
}

}  // namespace dormouse::sys
