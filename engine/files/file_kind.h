// One kind of open file: how it is recognised, saved, and opened again.
//
// A kind is one pair of files in this folder and one line in registry.cc. An instance serves one dump
// or one restore, so it may remember what it has seen (the pipes whose content is saved, …).
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"

namespace dormouse::pb {
class file_entry;
}

namespace dormouse::engine {

struct OpenFile;
class FilesSaver;   // engine/files/saver.h
class FilesOpener;  // engine/files/opener.h

class FileKind {
 public:
  FileKind() = default;
  FileKind(const FileKind&) = delete;
  FileKind& operator=(const FileKind&) = delete;
  virtual ~FileKind() = default;

  // For logs and errors: "pipe".
  virtual std::string_view name() const = 0;
  // The fd_types number of its records.
  virtual int type() const = 0;

  // --- dump ---
  // Decides on the facts alone, without system calls. The registry asks in its order.
  virtual bool matches(const OpenFile& file) const = 0;
  // Writes the record with that id, and whatever it refers to. Called once for each open file, however
  // many descriptors share it.
  [[nodiscard]] virtual Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) = 0;
  // After the last table: saves what is on its way inside of what was saved, in more calls of save().
  [[nodiscard]] virtual Result<> save_in_flight(FilesSaver&) { return {}; }
  // After the last save().
  [[nodiscard]] virtual Result<> finish_saving(FilesSaver&) { return {}; }

  // --- restore ---
  // Records are decoded and references between them checked, but nothing else: a path, a size or a flag
  // may still be hostile.
  virtual Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) = 0;
  // The object opened anew, for a mapping, with `flags` (O_*) in the place of the saved ones; its position and
  // owner do not matter.
  virtual Result<Fd> open_as(const pb::file_entry& entry, std::uint32_t flags, FilesOpener& opener);
  // After the last table: opens what only contents refer to.
  [[nodiscard]] virtual Result<> open_in_flight(FilesOpener&) { return {}; }
  // After the last open(): contents that need both ends.
  [[nodiscard]] virtual Result<> refill(FilesOpener&) { return {}; }
  // The restore succeeded: names that were made in the file system stay.
  virtual void keep() {}
};

}  // namespace dormouse::engine
