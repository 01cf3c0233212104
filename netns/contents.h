// What a network namespace holds beyond what a fresh one has.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace dormouse::netns {

struct Loopback {
  std::uint32_t index = 1;
  std::uint32_t flags = 0;  // IFF_*
  std::uint32_t mtu = 0;    // bytes
};

struct Contents {
  Loopback loopback;
  // Each named for a person: "link eth0 (veth)", "address 10.0.0.2/24 on lo", "route 10.0.0.0/8".
  std::vector<std::string> extras;
};

// A socket to ask with: it speaks for the namespace it was opened in, wherever it is used.
Result<Fd> open_route_socket();
// Links, addresses, routes and rules. Devices that the kernel puts into every new namespace, and what it
// derives from the loopback being up, are not extras.
Result<Contents> look_at(const Fd& route_socket);
Result<Loopback> look_at_loopback(const Fd& route_socket);

// In the caller's namespace.
[[nodiscard]] Result<> set_loopback(bool up);

}  // namespace dormouse::netns
