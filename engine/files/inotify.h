// inotify(7): watches on inodes. The kernel tells a watched inode by file handle only, so its path has to
// be found; restore watches what is at that path.
#pragma once

#include <cstdint>
#include <map>

#include "engine/files/file_kind.h"

namespace dormouse::engine {

class InotifyFile final : public FileKind {
 public:
  std::string_view name() const override { return "inotify"; }
  int type() const override;
  bool matches(const OpenFile& file) const override;
  Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) override;
  Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) override;
  // Watches are added last: opening the tree's other files must not be an event.
  Result<> refill(FilesOpener& opener) override;

 private:
  std::map<std::uint32_t, Fd> waiting_;  // opened and without watches yet, by file id
};

}  // namespace dormouse::engine
