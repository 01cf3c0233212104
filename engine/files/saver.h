// What the file kinds share while they save: ids, files.img, the container's root, names in the file
// system.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/dump_context.h"
#include "engine/files/open_file.h"
#include "engine/files/path_saver.h"
#include "engine/files/user_maps.h"
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

  DumpContext& context() const { return context_; }
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

  // Saves the open file of a descriptor that a message carries to `task`; the answer is its id.
  using CarriedSaver = std::function<Result<std::uint32_t>(Fd, const Task&)>;
  void set_carried_saver(CarriedSaver save) { save_carried_ = std::move(save); }
  Result<std::uint32_t> save_carried(Fd descriptor, const Task& task) { return save_carried_(std::move(descriptor), task); }

  // The number of the tasks' network namespace, or of the engine's.
  std::uint32_t network_id(bool inside) const { return inside ? context_.network_id : context_.outside_network_id; }
  // Into the ids of the root task's user namespace.
  uid_t uid_in_image(uid_t uid) const { return ids_.uids.inside(uid); }
  gid_t gid_in_image(gid_t gid) const { return ids_.gids.inside(gid); }

  PathSaver& paths() { return paths_; }
  // Memory whose pages are still to be saved.
  std::vector<MemoryObject>& memory_objects() { return memory_objects_; }
  // Whether opening the file for reading may break a lease that somebody has on it.
  Result<bool> reading_breaks_lease(const OpenFile& file);

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
  CarriedSaver save_carried_;
  UserMaps ids_;
};

}  // namespace dormouse::engine
