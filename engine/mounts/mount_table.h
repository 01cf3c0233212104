// The mounts of one mount namespace, looked up by id and by path.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "kernel/proc/mountinfo.h"

namespace dormouse::engine {

class MountTable {
 public:
  // From /proc/PID/mountinfo of a task in that namespace.
  static Result<MountTable> of(const std::string& mountinfo_text);

  // In the kernel's order: parents before children.
  const std::vector<proc::MountInfo>& all() const { return mounts_; }
  // Null if there is no such mount.
  const proc::MountInfo* by_id(std::uint32_t id) const;
  // The mount that a walk to the absolute `path` ends on: the visible one, where mounts cover each other.
  const proc::MountInfo* by_path(std::string_view path) const;
  // The mount that "/" is on: the bottom one, where several are stacked there. Null if the table lacks it (a chroot).
  const proc::MountInfo* root() const;
  // Whether `mount` is covered entirely: no path leads to its root.
  bool is_hidden(const proc::MountInfo& mount) const;
  bool has_children(const proc::MountInfo& mount) const;
  // Takes a mount out, with all that is mounted on it.
  void remove(std::uint32_t id);

 private:
  std::vector<proc::MountInfo> mounts_;
};

// Whether the absolute `path` is `directory` or below it.
bool is_below(std::string_view path, std::string_view directory);
// What is left of `path` below `directory`, without slashes around; "" if they are the same. `path` must be below.
std::string_view path_below(std::string_view path, std::string_view directory);

}  // namespace dormouse::engine
