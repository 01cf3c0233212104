// What the kernel tells of the unix sockets of a network namespace (unix_diag).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace dormouse::netns {

struct UnixSocket {
  std::uint32_t inode = 0;
  std::uint32_t peer = 0;       // inode of the other end; 0: none, or one that nobody has open
  int type = 0;                 // SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET
  int state = 0;                // TCP_ESTABLISHED (1), TCP_CLOSE (7), TCP_LISTEN (10)
  std::uint32_t shutdown = 0;   // bit set: 1 reading, 2 writing
  std::string name;             // sun_path as it is: a path with its zero, an abstract name; empty: not bound
  std::vector<std::uint32_t> waiting;  // listening: inodes of who was not accepted yet; 0: has closed already
  std::uint32_t receive_queue = 0;  // bytes (of the first message, where there are messages); listening: waiting
  std::uint32_t send_queue = 0;     // bytes charged to it; listening: backlog
};
using UnixSockets = std::map<std::uint32_t, UnixSocket>;  // by inode

// A socket to ask with: it speaks for the namespace it was opened in, wherever it is used.
Result<Fd> open_diag_socket();
Result<UnixSockets> list_unix_sockets(const Fd& diag_socket);

// One packet of the kernel's answer. True: it was the last one.
Result<bool> parse_unix_answer(std::span<const std::byte> packet, UnixSockets& into);

}  // namespace dormouse::netns
