// Pipes. All open files of one pipe share its number (the inode's); one whose other end is outside the
// tree, such as a container's stdio, is replaced at restore: --inherit-fd fd[N]:pipe:[INODE].
#pragma once

#include <cstdint>
#include <map>

#include "engine/files/file_kind.h"
#include "engine/files/pipe_content.h"
#include "kernel/file.h"

namespace dormouse::engine {

class PipeFile final : public FileKind {
 public:
  std::string_view name() const override { return "pipe"; }
  int type() const override;
  bool matches(const OpenFile& file) const override;
  Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) override;
  Result<> finish_saving(FilesSaver&) override { return contents_.finish(); }
  Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) override;
  Result<> refill(FilesOpener& opener) override;

 private:
  PipeContentSaver contents_{images::kPipesData};
  // Restored pipes, with the open files that pipe2() itself made: each may become one saved open file,
  // all others are opened from it.
  struct Restored {
    sys::Pipe ends;
    bool read_end_used = false, write_end_used = false;
  };
  std::map<std::uint32_t, Restored> restored_;  // by pipe_id
};

}  // namespace dormouse::engine
