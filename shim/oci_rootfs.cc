#include "shim/oci_rootfs.h"

#include <linux/openat2.h>
#include <sys/mount.h>

#include <algorithm>
#include <array>
#include <deque>

#include "base/format.h"
#include "base/text.h"
#include "kernel/file.h"
#include "kernel/mount_api.h"

namespace dormouse::shim {
namespace {

constexpr int kMaxLinks = 40;  // as the kernel's own limit

void put_before(std::deque<std::string>& parts, std::string_view path) {
  const auto more = split(path, '/');
  parts.insert(parts.begin(), more.begin(), more.end());
}

bool lies_in(std::string_view path, std::string_view directory) {
  return path.size() > directory.size() && path.starts_with(directory) && path[directory.size()] == '/';
}

// File systems whose directories the kernel makes, or that the engine fills from the image.
bool is_made_elsewhere(const oci::Mount& mount) { return !mount.is_bind(); }

// Where a mount point lies: in the root file system, or in what an earlier mount put there.
struct Place {
  const oci::Mount* under = nullptr;  // null: the root file system
  std::string path;                   // from there
};
Place place_of(const oci::Mount& mount, std::span<const oci::Mount> earlier) {
  Place place{nullptr, mount.destination};
  for (const auto& other : earlier) {
    // The longest counts, of equally long ones the last: it covers the others.
    if (!lies_in(mount.destination, other.destination)) continue;
    if (place.under && place.under->destination.size() > other.destination.size()) continue;
    place = {&other, mount.destination.substr(other.destination.size())};
  }
  return place;
}

Result<bool> is_directory(const oci::Mount& mount) {
  if (!mount.is_bind()) return true;
  const auto st = TRY_OR(sys::fstatat(AT_FDCWD, mount.source),
                         std::move(e).object(format("bind mount of {} on {}", mount.source, mount.destination))
                             .remedy("the source must exist on this node"));
  return S_ISDIR(st.st_mode);
}

Result<Fd> open_inside(int root, const std::string& path) {
  return sys::openat2(root, path, O_PATH, RESOLVE_IN_ROOT);
}

Result<> make_inside(int root, std::string_view path, bool directory) {
  Fd parent = TRY(sys::openat2(root, ".", O_PATH | O_DIRECTORY, RESOLVE_IN_ROOT));
  std::string so_far;
  const auto parts = split(path, '/');
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].empty()) continue;
    const std::string name(parts[i]);
    so_far += so_far.empty() ? name : "/" + name;
    auto next = open_inside(root, so_far);
    if (!next) {
      if (!next.error().is_kernel(ENOENT)) return fail(std::move(next).error());
      if (i + 1 == parts.size() && !directory) {
        TRY(sys::openat(parent.get(), name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0644));
        return {};
      }
      TRY(sys::mkdirat(parent.get(), name, 0755));
      next = open_inside(root, so_far);
      if (!next) return fail(std::move(next).error());
    }
    parent = std::move(*next);
  }
  return {};
}

Result<> make_mount_point(const std::string& rootfs, const oci::Mount& mount, const Place& place) {
  const std::string& base = place.under ? place.under->source : rootfs;
  const Fd root = TRY(sys::openat(AT_FDCWD, base, O_PATH | O_DIRECTORY));
  return make_inside(root.get(), place.path, TRY(is_directory(mount)));
}

}  // namespace

std::string resolve_in_root(int root, std::string_view path) {
  std::string resolved;
  std::deque<std::string> parts;
  put_before(parts, path);
  int links = 0;
  while (!parts.empty()) {
    const std::string part = std::move(parts.front());
    parts.pop_front();
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      resolved.resize(resolved.empty() ? 0 : resolved.rfind('/'));
      continue;
    }
    const std::string next = resolved + "/" + part;
    const auto target = sys::readlinkat(root, next.substr(1));
    if (!target || links == kMaxLinks) {  // no link, or nothing there
      resolved = next;
      continue;
    }
    ++links;
    if (target->starts_with('/')) resolved.clear();
    put_before(parts, *target);
  }
  return resolved.empty() ? "/" : resolved;
}

Result<> make_mount_points(const std::string& rootfs, std::span<const oci::Mount> mounts) {
  for (std::size_t i = 0; i < mounts.size(); ++i) {
    const oci::Mount& mount = mounts[i];
    // v1: directories of a tmpfs that the image has; v2: a directory of sysfs.
    if (mount.type == "cgroup" || mount.type == "cgroup2") continue;
    const Place place = place_of(mount, mounts.first(i));
    if (place.under && is_made_elsewhere(*place.under)) continue;
    TRY_OR(make_mount_point(rootfs, mount, place),
           std::move(e).during("making the mount point").object(mount.destination).owner("the container"));
  }
  return {};
}

Result<RootMount> RootMount::make(const std::string& rootfs, const std::string& at) {
  TRY(sys::mkdirat(AT_FDCWD, at, 0755));
  RootMount mount(at);
  TRY_OR(sys::mount(rootfs.c_str(), at, nullptr, MS_BIND | MS_REC), std::move(e).object("root file system " + rootfs));
  // With what is mounted in it: taking a shared mount away here would take it away at the original.
  TRY(sys::mount(nullptr, at, nullptr, MS_PRIVATE | MS_REC));
  return mount;
}

RootMount::~RootMount() {
  if (!path_.empty()) remove(path_);
}

void RootMount::remove(const std::string& at) noexcept {
  (void)sys::umount2(at, MNT_DETACH | UMOUNT_NOFOLLOW);
  (void)sys::unlinkat(AT_FDCWD, at, AT_REMOVEDIR);
}

}  // namespace dormouse::shim
