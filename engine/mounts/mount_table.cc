#include "engine/mounts/mount_table.h"

#include <algorithm>

namespace dormouse::engine {

bool is_below(std::string_view path, std::string_view directory) {
  if (directory == "/") return path.starts_with('/');
  return path.starts_with(directory) &&
         (path.size() == directory.size() || path[directory.size()] == '/');
}

std::string_view path_below(std::string_view path, std::string_view directory) {
  path.remove_prefix(directory == "/" ? 0 : directory.size());
  while (path.starts_with('/')) path.remove_prefix(1);
  return path;
}

Result<MountTable> MountTable::of(const std::string& mountinfo_text) {
  MountTable table;
  table.mounts_ = TRY(proc::parse_mountinfo(mountinfo_text));
  return table;
}

const proc::MountInfo* MountTable::by_id(std::uint32_t id) const {
  const auto found = std::ranges::find(mounts_, id, &proc::MountInfo::id);
  return found == mounts_.end() ? nullptr : &*found;
}

const proc::MountInfo* MountTable::root() const {
  for (const auto& mount : mounts_)
    if (mount.mount_point == "/" && (mount.id == mount.parent_id || !by_id(mount.parent_id)))
      return &mount;
  return nullptr;
}

// As the kernel walks: on every mount, the child whose mount point is reached first takes over. A child
// further down the path is then out of sight, even if it is the longer match.
const proc::MountInfo* MountTable::by_path(std::string_view path) const {
  const proc::MountInfo* at = root();
  while (at) {
    const proc::MountInfo* next = nullptr;
    for (const auto& mount : mounts_) {
      if (mount.parent_id != at->id || &mount == at || !is_below(path, mount.mount_point)) continue;
      if (!next || mount.mount_point.size() < next->mount_point.size()) next = &mount;
    }
    if (!next) break;
    at = next;
  }
  return at;
}

bool MountTable::is_hidden(const proc::MountInfo& mount) const {
  return by_path(mount.mount_point) != &mount;
}

bool MountTable::has_children(const proc::MountInfo& mount) const {
  return std::ranges::any_of(
      mounts_, [&](const auto& other) { return other.parent_id == mount.id && &other != &mount; });
}

void MountTable::remove(std::uint32_t id) {
  std::erase_if(mounts_, [&](const auto& mount) { return mount.id == id; });
  for (;;) {
    const auto orphan = std::ranges::find(mounts_, id, &proc::MountInfo::parent_id);
    if (orphan == mounts_.end()) return;
    remove(orphan->id);
  }
}

}  // namespace dormouse::engine
