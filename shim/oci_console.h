// Handing a container's terminal to whoever will hold it.
#pragma once

#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace dormouse::shim {

// `path` may be longer than a socket's address.
Result<Fd> connect_console(const std::string& path);
// Sends the terminal's master side, as runc does: one message with a name and the descriptor.
[[nodiscard]] Result<> send_terminal(int socket, int master);

}  // namespace dormouse::shim
