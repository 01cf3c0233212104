// From an inode, as /proc/PID/fdinfo of an inotify descriptor tells it, back to a path.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dormouse::engine {

struct OpenFile;
class FilesSaver;

// "inotify wd:1 ino:2f sdev:800003 mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:2f00…"
struct InotifyWatch {
  std::uint32_t number = 0;
  std::uint64_t inode = 0;
  std::uint32_t device = 0;  // the kernel's encoding
  std::uint32_t mask = 0, ignored_mask = 0;
  int handle_type = 0;
  std::vector<std::uint8_t> handle;  // empty: the file system has none
};
std::optional<InotifyWatch> parse_inotify_watch(std::string_view line);

// A path of the container that leads to the inode; nothing if none was found. Asks the file system by
// handle; where that is not supported (overlayfs), tries what the tree's tasks have open, and where they are, and at
// last searches the directories that the caller named for this (irmap_scan_paths).
Result<std::optional<std::string>> path_of_watched(const InotifyWatch& watch, FilesSaver& saver);

// The inode number, as stat() tells it, of the watched file if no path leads to it but a task of the tree has it open,
// executes it or is in it: it comes back with that task's descriptor.
Result<std::optional<std::uint64_t>> held_without_name(const InotifyWatch& watch, const FilesSaver& saver);

}  // namespace dormouse::engine
