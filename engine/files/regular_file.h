// Files that are opened by path and need nothing but a position: regular files, directories, the memory
// devices (/dev/null, zero, full, random, …), and O_PATH descriptors of anything.
#pragma once

#include "engine/files/file_kind.h"

namespace dormouse::engine {

class RegularFile final : public FileKind {
 public:
  std::string_view name() const override { return "file"; }
  int type() const override;
  bool matches(const OpenFile& file) const override;
  Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) override;
  Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) override;
  Result<Fd> open_as(const pb::file_entry& entry, std::uint32_t flags, FilesOpener& opener) override;
};

}  // namespace dormouse::engine
