// From an inode, as /proc/PID/fdinfo of an inotify or fanotify descriptor tells it, to what an image says of it (a path
// where there is one), and back.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace dormouse::pb {
class fh_entry;
}
namespace dormouse::proc {
struct MountInfo;
}

namespace dormouse::engine {

struct OpenFile;
class FilesOpener;
class FilesSaver;

struct WatchedInode {
  std::uint64_t inode = 0;
  std::uint32_t device = 0;  // the kernel's encoding
  int handle_type = 0;
  std::vector<std::uint8_t> handle;  // empty: the file system has none
};

// "inotify wd:1 ino:2f sdev:800003 mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:2f00…"
struct InotifyWatch : WatchedInode {
  std::uint32_t number = 0;
  std::uint32_t mask = 0, ignored_mask = 0;
};
std::optional<InotifyWatch> parse_inotify_watch(std::string_view line);

// What such a line tells, of which each word is "KEY:HEXADECIMAL".
struct WatchWords {
  std::map<std::string_view, std::uint64_t> numbers;
  std::vector<std::uint8_t> handle;  // "f_handle", which is no number

  bool has(std::string_view key) const { return numbers.contains(key); }
  // 0 if it is not there.
  std::uint64_t number(std::string_view key) const;
  WatchedInode inode() const;
};
// Nothing if a word is not as it should be. `words`: the line behind its first one.
std::optional<WatchWords> parse_watch_words(std::string_view words);

// The device of a mount as fdinfo tells that of an inode.
std::uint32_t device_of(const proc::MountInfo& mount);
// Says in the log that there are events which nobody has read, and nobody will.
[[nodiscard]] Result<> note_unread_events(const OpenFile& file, FilesSaver& saver);

// A path of the container that leads to the inode; nothing if none was found. Asks the file system by
// handle; where that is not supported (overlayfs), tries what the tree's tasks have open, and where they are, and at
// last searches the directories that the caller named for this (irmap_scan_paths).
Result<std::optional<std::string>> path_of_watched(const WatchedInode& watched, FilesSaver& saver);

// The inode number, as stat() tells it, of the watched file if no path leads to it but a task of the tree has it open,
// executes it or is in it: it comes back with that task's descriptor.
Result<std::optional<std::uint64_t>> held_without_name(const WatchedInode& watched, const FilesSaver& saver);

// Fills in what the image says of an inode that `file`, an inotify or fanotify descriptor, watches. The answer is the
// inode number to save; a blocker if nothing would lead back to the inode.
Result<std::uint64_t> save_watched(const WatchedInode& watched, const OpenFile& file, FilesSaver& saver, pb::fh_entry* to);

// The watched file, as O_PATH: by path; without one, among the files without a name; at last by handle, on the root's
// file system, since that is all that the reference engine saves.
Result<Fd> find_watched(const pb::fh_entry& saved, std::uint64_t inode, std::uint32_t device, FilesOpener& opener);

}  // namespace dormouse::engine
