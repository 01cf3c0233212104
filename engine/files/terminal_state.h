// What is known of one terminal apart from the descriptors on it, read from and put back into the
// kernel.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "base/error.h"

namespace dormouse::pb {
class tty_info_entry;
}

namespace dormouse::engine {

struct OpenFile;
struct Tree;

// Which terminal a device number means.
struct TerminalDevice {
  int type = 0;         // TtyType
  bool is_master = false;
  // Number of the terminal in tty-info.img, unless it is a master's: those have to be asked for.
  std::uint32_t index = 0;
};
std::optional<TerminalDevice> terminal_device(dev_t rdev);
// The index of a pseudo terminal's master.
Result<std::uint32_t> master_index(int fd);
// In tty-info.img: the index doubled, and odd for a master.
inline std::uint32_t terminal_number(std::uint32_t index, bool is_master) { return index * 2 + is_master; }

// Everything but id, type and pty index. Without termios: hung up, the other end is gone.
[[nodiscard]] Result<> read_terminal(const OpenFile& file, bool is_master, const Tree& tree,
                                     pb::tty_info_entry& info);

// Settings, size and owner. Not who it controls, and not what would hinder further opening (locked,
// exclusive).
[[nodiscard]] Result<> apply_terminal(int fd, const pb::tty_info_entry& info);

}  // namespace dormouse::engine
