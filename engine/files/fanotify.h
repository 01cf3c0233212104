// fanotify(7): marks on inodes and mounts. Restore finds inodes as inotify does (watched_inode.h), and mounts by where
// they are mounted. The image format has no place for marks of whole file systems and of mount namespaces.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>

#include "engine/files/file_kind.h"
#include "engine/files/watched_inode.h"

namespace dormouse::engine {

// "fanotify flags:2 event-flags:8000"
struct FanotifyGroup {
  std::uint32_t flags = 0, event_flags = 0;
};
std::optional<FanotifyGroup> parse_fanotify_group(std::string_view line);

// "fanotify ino:2f sdev:800003 mflags:0 mask:20 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:2f00…" or
// "fanotify mnt_id:12 mflags:40 mask:38 ignored_mask:3"
struct FanotifyMark {
  std::optional<WatchedInode> inode;
  std::optional<std::uint32_t> mount_id;
  std::uint32_t flags = 0, mask = 0, ignored_mask = 0;
};
// A mark of something else is one with neither an inode nor a mount.
std::optional<FanotifyMark> parse_fanotify_mark(std::string_view line);

class FanotifyFile final : public FileKind {
 public:
  std::string_view name() const override { return "fanotify"; }
  int type() const override;
  bool matches(const OpenFile& file) const override;
  Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) override;
  Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) override;
  // Marks are set last: opening the tree's other files must not be an event.
  Result<> refill(FilesOpener& opener) override;

 private:
  std::map<std::uint32_t, Fd> waiting_;  // opened and without marks yet, by file id
};

}  // namespace dormouse::engine
