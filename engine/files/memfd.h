// memfds, and the kernel's own files behind shared anonymous memory where they are open (through
// /proc/PID/map_files): memory that is read, written and mapped like a file but has no path.
//
// A record for each open file or mapping (files.img), one for each object (memfd.img), its pages as those of
// shared memory.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "engine/files/file_kind.h"
#include "engine/memory/memory_mounts.h"
#include "images/directory.h"
#include "images/schema/files.pb.h"

namespace dormouse::engine {

class MemfdFile final : public FileKind {
 public:
  std::string_view name() const override { return "memfd"; }
  int type() const override;
  bool matches(const OpenFile& file) const override;
  Result<> save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) override;
  Result<> finish_saving(FilesSaver& saver) override;
  // Whether the object behind that inode of the kernel's own file system has been saved.
  bool has_saved(std::uint64_t inode, bool huge) const;

  Result<Fd> open(const pb::file_entry& entry, FilesOpener& opener) override;
  Result<Fd> open_as(const pb::file_entry& entry, std::uint32_t flags, FilesOpener& opener) override;
  // Seals: after the last mapping, since they forbid writable ones.
  Result<> refill(FilesOpener& opener) override;

 private:
  struct Object {
    Fd file;              // as memfd_create() gives it
    bool handed_out = false;
    std::uint32_t seals = 0;
  };
  Result<std::uint32_t> save_object(const OpenFile& file, FilesSaver& saver);
  Result<Object*> object_of(const pb::memfd_file_entry& entry, FilesOpener& opener);

  MemoryMounts mounts_ = MemoryMounts::look();
  std::map<std::pair<std::uint64_t, bool>, std::uint32_t> saved_;  // inode and huge: id
  std::optional<images::Writer> inodes_;
  std::map<std::uint32_t, Object> objects_;  // by inode_id
};

}  // namespace dormouse::engine
