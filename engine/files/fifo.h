// Named pipes: an end has a path (a REG record) and shares its content with the other ends.
#pragma once

#include <cstdint>
#include <map>

#include "engine/files/file_kind.h"
#include "engine/files/pipe_content.h"

namespace dormouse::engine {

class FifoFile final : public FileKind {
 public:
  std::string_view name() const override { return "fifo"; }
  int type() const override;
  bool matches(const OpenFile& file) const override;
  Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) override;
  Result<> finish_saving(FilesSaver&) override { return contents_.finish(); }
  Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) override;
  Result<> refill(FilesOpener& opener) override;

 private:
  PipeContentSaver contents_{images::kFifoData};
  // Both ends in one, by pipe_id: while it is there, opening any end returns at once.
  std::map<std::uint32_t, Fd> restored_;
};

}  // namespace dormouse::engine
