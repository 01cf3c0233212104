// Mounts: the descriptor-based calls (Linux 5.2 and later) and the old ones.
// Flags are the kernel's: MS_*, MOUNT_ATTR_*, OPEN_TREE_*, MOVE_MOUNT_* of <sys/mount.h>.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "kernel/abi.h"
#include "kernel/file.h"

namespace dormouse::sys {

Result<Fd> fsopen(Path type);
// What the kernel wrote into the context about a failure ("e" lines), joined; empty if nothing.
std::string fs_context_messages(int context);
[[nodiscard]] Result<> fsconfig_flag(int context, Path key);
[[nodiscard]] Result<> fsconfig_string(int context, Path key, Path value);
[[nodiscard]] Result<> fsconfig_fd(int context, Path key, int fd);
[[nodiscard]] Result<> fsconfig_create(int context);
[[nodiscard]] Result<> fsconfig_reconfigure(int context);
// The new mount, attached nowhere yet.
Result<Fd> fsmount(int context, unsigned attributes = 0);
Result<Fd> fspick(int dir, Path path, unsigned flags = 0);
// With OPEN_TREE_CLONE: a detached copy of the mount (with AT_RECURSIVE: of the tree of mounts).
Result<Fd> open_tree(int dir, Path path, unsigned flags);
[[nodiscard]] Result<> move_mount(int from_dir, Path from, int to_dir, Path to, unsigned flags);
[[nodiscard]] Result<> mount_setattr(int dir, Path path, unsigned flags, const abi::MountAttr& attributes);

// `source`, `type` and `data` may be null.
[[nodiscard]] Result<> mount(const char* source, Path target, const char* type, unsigned long flags,
                             const char* data = nullptr);
[[nodiscard]] Result<> umount2(Path target, int flags = 0);
[[nodiscard]] Result<> pivot_root(Path new_root, Path put_old);

}  // namespace dormouse::sys
