// What the file kinds share while they save: ids, files.img, the container's root, names in the file
// system.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/dump_context.h"
#include "engine/files/open_file.h"
#include "engine/files/path_saver.h"
#include "engine/memory/shared_pages.h"
#include "images/directory.h"

namespace dormouse::pb {
class file_entry;
class fown_entry;
}

namespace dormouse::engine {

class MountTable;

class FilesSaver {
 public:
  static Result<std::unique_ptr<FilesSaver>> create(DumpContext& context, const MountTable& mounts);

  DumpContext& context() { return context_; }
  const CheckpointOptions& options() const { return context_.options; }
  const MountTable& mounts() const { return mounts_; }
  // Root directory of the root task's mount namespace.
  int root() const { return root_.get(); }
  // False for a tree that lives among the node's own mounts.
  bool has_own_mounts() const { return has_own_mounts_; }
  bool is_external(const std::string& key) const;

  // File ids are unique in the whole image.
  std::uint32_t& next_id() { return next_id_; }
  [[nodiscard]] Result<> write(const pb::file_entry& record);
  void fill_owner(const OpenFile& file, pb::fown_entry* entry) const;

  PathSaver& paths() { return paths_; }
  // Memory whose pages are still to be saved.
  std::vector<MemoryObject>& memory_objects() { return memory_objects_; }

  // Closes files.img and what belongs to it.
  [[nodiscard]] Result<> finish();

 private:
  FilesSaver(DumpContext& context, const MountTable& mounts, images::Writer files)
      : context_(context), mounts_(mounts), files_(std::move(files)) {}

  DumpContext& context_;
  const MountTable& mounts_;
  images::Writer files_;
  Fd root_;
  bool has_own_mounts_ = false;
  std::uint32_t next_id_ = 1;
  PathSaver paths_;
  std::vector<MemoryObject> memory_objects_;
};

}  // namespace dormouse::engine
