// signalfd(2): reads the pending signals of whoever reads it, so its mask is all there is to save.
#pragma once

#include "engine/files/file_kind.h"

namespace dormouse::engine {

class SignalFile final : public FileKind {
 public:
  std::string_view name() const override { return "signalfd"; }
  int type() const override;
  bool matches(const OpenFile& file) const override;
  Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) override;
  Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) override;
};

}  // namespace dormouse::engine
