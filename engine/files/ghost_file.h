// Files that were deleted while open: no path leads to them, so the image holds them whole
// (ghost-file-N.img), and restore creates them under their old name for a moment.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "images/directory.h"

namespace dormouse::engine {

struct OpenFile;

// Content, times, mode and owner of a regular file, directory, fifo, device or symbolic link.
[[nodiscard]] Result<> save_ghost(const OpenFile& file, std::uint32_t number, images::OutputDirectory& out);

// The file's device (as the kernel encodes it) and inode number at the checkpoint.
struct GhostIdentity {
  std::uint32_t device = 0;
  std::uint64_t inode = 0;
};
Result<GhostIdentity> identity_of_ghost(const images::InputDirectory& in, std::uint32_t number);

// Creates the file at `path` below `root`, or at a similar path if that one is taken, and deletes it
// again. Directories that `path` needs exist just as long. The answer is an O_PATH descriptor.
Result<Fd> create_ghost(const images::InputDirectory& in, std::uint32_t number, int root,
                        const std::string& path);

}  // namespace dormouse::engine
