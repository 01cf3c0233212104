// What waits to be read at one end of a pseudo terminal.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace dormouse::engine {

// As it would have to be typed (or printed) to wait there again: a line that an end of input has ended has the character
// for it. The kernel has no way of looking at it, so it is read and put back at once, by a process of its own that
// finishes even if the engine is killed; nobody else may read meanwhile. `fd`: open for reading and writing.
// kUnsupported: more waits than one reading takes.
Result<std::string> peek_terminal(int fd, bool is_master);

// Puts it there: nothing is shown, and nothing in it is taken for a command, but ends of input. kKernel with EPERM or EIO:
// the caller may not (TIOCSTI wants CAP_SYS_ADMIN on the node).
[[nodiscard]] Result<> fill_terminal(int fd, bool is_master, std::string_view data);

}  // namespace dormouse::engine
