// Options of level SOL_SOCKET, which sockets of all families have (sk_opts_entry).
#pragma once

#include "base/error.h"

namespace dormouse::pb {
class sk_opts_entry;
}

namespace dormouse::engine {

// `family`: AF_*. An option that the format has no place for, and that is not at its default, is kUnsupported.
[[nodiscard]] Result<> read_socket_options(int fd, int family, pb::sk_opts_entry* entry);
// All but SO_REUSEADDR and SO_REUSEPORT, which matter before bind().
[[nodiscard]] Result<> apply_socket_options(int fd, const pb::sk_opts_entry& entry);

// Room for any queue: both buffers as large as the kernel lets them be. apply_socket_options() takes it back.
[[nodiscard]] Result<> enlarge_buffers(int fd);

}  // namespace dormouse::engine
