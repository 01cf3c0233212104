// How the unix sockets of an image come to be again: who is born with whom, who is bound, and in which order
// they connect. No system calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dormouse::pb {
class file_entry;
class unix_sk_entry;
}

namespace dormouse::engine {

// unix_sk_entry.state, the numbers of TCP.
inline constexpr int kEstablished = 1, kClosed = 7, kListening = 10;
// unix_sk_entry.uflags
inline constexpr std::uint32_t kIsOutside = 1;     // a peer that is not in the tree; no more than its name is known
inline constexpr std::uint32_t kToRequester = 2;  // was connected to the engine that dumped it
inline constexpr std::uint32_t kByPlugin = 4;

// The path in a sun_path, without its zero; empty if it is none.
std::string unix_path(std::string_view name);
// For messages: an abstract name begins with @.
std::string printable_name(std::string_view name);
// The directory in which the relative name `path` leads to the file `link`; nothing if it cannot be so.
std::optional<std::string> directory_of_name(std::string_view link, std::string_view path);

enum class UnixBirth : std::uint8_t {
  kAlone,      // socket()
  kPair,       // socketpair(), both ends are in the image
  kAccepted,   // as a pair, but by connecting to a listener: one end has the listener's name
  kFed,        // alone, but somebody has to send it what waits in its queue
  kOrphan,     // its other end was closed
  kRequester,  // its other end gives it the reply to its own dump
  kOutside,    // none: it is only a name
};

struct UnixPlan {
  struct Socket {
    const pb::unix_sk_entry* record = nullptr;
    UnixBirth birth = UnixBirth::kAlone;
    std::optional<std::size_t> peer = {};  // index
    bool binds = false;
    bool connects = false;            // to its peer, when all are there
    bool accepted = false;            // the end of a kAccepted pair that has the listener's name
  };
  std::vector<Socket> sockets;           // in the order of file ids
  std::vector<std::size_t> connections;  // indices of those that connect, in an order that the kernel accepts
};

// `fed`: file ids of sockets with something in their queues.
Result<UnixPlan> plan_unix_sockets(const std::map<std::uint32_t, pb::file_entry>& files,
                                   const std::set<std::uint32_t>& fed);

}  // namespace dormouse::engine
