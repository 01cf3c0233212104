// The container's root file system, prepared for the engine.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"
#include "oci/config.h"

namespace dormouse::shim {

// The path that `path` stands for if `root` were "/": symbolic links are followed, but never out of
// it. What does not exist is taken as written. Mount points are named so in images.
std::string resolve_in_root(int root, std::string_view path);

// Makes the mount points that are missing, as the runtime did when the container was created: files
// for bind mounts of files, else directories. Left out is what the engine brings along itself: what
// lies in a tmpfs of the container, or below a file system of the kernel's. Links are followed inside
// of the root and of the mounts' sources, never out of them.
[[nodiscard]] Result<> make_mount_points(const std::string& rootfs, std::span<const oci::Mount> mounts);

// The root file system, with everything mounted in it, at a place of our own, for as long as a restore
// takes: the engine wants a mount point whose propagation is not the node's. The directory goes with
// the mount.
class RootMount {
 public:
  static Result<RootMount> make(const std::string& rootfs, const std::string& at);
  RootMount(RootMount&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  RootMount& operator=(RootMount&&) = delete;
  ~RootMount();
  const std::string& path() const { return path_; }
  // What a killed restore left behind.
  static void remove(const std::string& at) noexcept;

 private:
  explicit RootMount(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace dormouse::shim
