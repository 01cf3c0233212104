// eventfd(2): a counter.
#pragma once

#include "engine/files/file_kind.h"

namespace dormouse::engine {

class EventFile final : public FileKind {
 public:
  std::string_view name() const override { return "eventfd"; }
  int type() const override;
  bool matches(const OpenFile& file) const override;
  Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) override;
  Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) override;
};

}  // namespace dormouse::engine
