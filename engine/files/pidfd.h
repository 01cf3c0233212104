// pidfd_open(2): a descriptor of a process, or of one thread (PIDFD_THREAD), that lives, or that is gone.
#pragma once

#include <map>

#include "engine/files/file_kind.h"

namespace dormouse::engine {

class PidFile final : public FileKind {
 public:
  std::string_view name() const override { return "pidfd"; }
  int type() const override;
  bool matches(const OpenFile& file) const override;
  Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) override;
  Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) override;

 private:
  [[nodiscard]] Result<> open_dead(std::uint32_t inode, FilesOpener& opener);
  std::map<std::uint32_t, Fd> dead_;  // opened ahead, by file id
};

}  // namespace dormouse::engine
