#include "engine/mounts/mounts_dump.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/format.h"
#include "engine/externals.h"
#include "engine/mounts/describe.h"
#include "engine/mounts/tmpfs_save.h"
#include "kernel/file.h"
#include "kernel/mount_api.h"
#include "kernel/proc/small.h"
#include "kernel/process.h"
#include "kernel/visit.h"

namespace dormouse::engine {

namespace {

Result<bool> in_own_namespace(const Task& task, const std::string& kind) {
  const auto theirs = TRY(sys::fstatat(task.proc.get(), "ns/" + kind));
  const auto ours = TRY(sys::fstatat(AT_FDCWD, "/proc/self/ns/" + kind));
  return theirs.st_ino != ours.st_ino;
}

// From the node's ids to those of the task's user namespace; what is not mapped is nobody.
Result<MapId> id_map(const Task& task, const char* file) {
  constexpr std::uint32_t kNobody = 65534;
  const std::string text = TRY(sys::read_file(task.proc.get(), file));
  auto ranges = TRY(proc::parse_id_map(text));
  return [ranges = std::move(ranges)](std::uint32_t id) {
    for (const auto& range : ranges)
      if (id >= range.outside && id - range.outside < range.count)
        return range.inside + (id - range.outside);
    return kNobody;
  };
}

std::string object_of(const proc::MountInfo& mount) {
  return format("mount {} ({}, id {})", mount.mount_point, mount.type, mount.id);
}

// A file system whose content is to be read, as its own tree: whatever is mounted on top is left behind.
struct Naked {
  const proc::MountInfo* mount;
  Result<Fd> root = Fd();
};

Result<Fd> clone_naked(const proc::MountInfo& mount) {
  Fd root = TRY(sys::open_tree(AT_FDCWD, mount.mount_point,
                               OPEN_TREE_CLONE | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW));
  const auto stat = TRY(sys::fstat(root.get()));
  if (stat.st_dev != ::gnu_dev_makedev(mount.device_major, mount.device_minor))
    return fail(Error::unsupported("another mount is in its place by now"));
  return root;
}

// As clone_naked(), for a mount that cannot be seen or copied as it is: in a copy of the whole namespace, where
// covers can be taken away and nothing propagates. The copy goes with the visitor.
Result<Fd> clone_uncovered(const MountTable& mounts, const proc::MountInfo& mount) {
  TRY(sys::unshare(CLONE_NEWNS));
  TRY(sys::mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, {.propagation = MS_PRIVATE}));
  MountTable left = mounts;
  for (;;) {
    const proc::MountInfo* const cover = left.by_path(mount.mount_point);
    if (!cover || cover->id == mount.id) break;
    TRY(sys::umount2(cover->mount_point, MNT_DETACH | UMOUNT_NOFOLLOW));
    left.remove(cover->id);
  }
  return clone_naked(mount);
}

// open_tree() copies only mounts of the caller's own namespace, so a visitor does it over there.
Result<std::vector<Naked>> strip(const Task& task, const MountTable& mounts, bool own_users,
                                 const MountsDescription& description) {
  std::vector<Naked> all;
  for (const auto* list : {&description.archives, &description.must_be_empty})
    for (const auto* mount : *list) all.push_back({.mount = mount});
  if (all.empty()) return all;

  const auto is_plain = [&](const Naked& naked) {
    return !naked.mount->unbindable && !mounts.is_hidden(*naked.mount);
  };
  TRY(sys::visit_namespaces(task.pidfd.get(), CLONE_NEWNS, [&]() -> Result<> {
    for (auto& naked : all)
      if (is_plain(naked)) naked.root = clone_naked(*naked.mount);
    return {};
  }));
  // A copy made by a stranger to the user namespace would have its mounts locked onto each other.
  const int types = CLONE_NEWNS | (own_users ? CLONE_NEWUSER : 0);
  for (auto& naked : all)
    if (!is_plain(naked))
      TRY(sys::visit_namespaces(task.pidfd.get(), types, [&]() -> Result<> {
        naked.root = clone_uncovered(mounts, *naked.mount);
        return {};
      }));
  return all;
}

class Saver {
 public:
  Saver(DumpContext& context, const Task& task, const Surroundings& surroundings)
      : context_(context), task_(task), surroundings_(surroundings) {}

  [[nodiscard]] Result<> save_list(const MountsDescription& description, std::uint32_t number) {
    auto file = TRY(context_.out.create(images::kMountpoints, number));
    for (const auto& entry : description.entries) TRY(file.append(entry));
    return file.finish();
  }

  [[nodiscard]] Result<> save_contents(const MountsDescription& description, const MountTable& mounts) {
    const bool own_users = static_cast<bool>(surroundings_.map_uid);
    const auto all = TRY(strip(task_, mounts, own_users, description));
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto& [mount, root] = all[i];
      Result<> step;
      if (!root) step = fail(root.error());
      else if (i < description.archives.size()) step = archive(*mount, root->get());
      else step = expect_empty(*mount, root->get());
      if (step) continue;
      context_.blockers.add(std::move(step).error().object(object_of(*mount)).owner(task_.name()));
    }
    return {};
  }

 private:
  [[nodiscard]] Result<> archive(const proc::MountInfo& mount, int root) {
    auto file = TRY(context_.out.create(images::kTmpfsDev,
                                        image_device(mount.device_major, mount.device_minor)));
    TRY(save_tmpfs(root, surroundings_.map_uid, surroundings_.map_gid, context_.leases, context_.log,
                   [&](std::span<const std::byte> bytes) { return file.append_bytes(bytes); }));
    return file.finish();
  }

  [[nodiscard]] static Result<> expect_empty(const proc::MountInfo& mount, int root) {
    const auto entries = TRY(sys::list_directory(root, "."));
    if (entries.empty()) return {};
    return fail(Error::unsupported(format("it holds '{}', and the content of {} is not saved",
                                          entries.front().name, mount.type))
                    .remedy("unmount it"));
  }

  DumpContext& context_;
  const Task& task_;
  const Surroundings& surroundings_;
};

}  // namespace

Result<> save_mounts(DumpContext& context, const Task& task, const MountTable& mounts,
                     std::uint32_t namespace_id) {
  Surroundings surroundings{.options = context.options, .owner = task.name()};
  std::optional<MountTable> outside;
  if (auto_external(context.options).mounts) {
    const std::string text = TRY(sys::read_file(AT_FDCWD, "/proc/self/mountinfo"));
    outside = TRY(MountTable::of(text));
    surroundings.outside = &*outside;
  }
  surroundings.own_cgroup_namespace = TRY(in_own_namespace(task, "cgroup"));
  if (const auto stat = sys::fstatat(AT_FDCWD, "/dev/pts"))
    surroundings.outside_devpts =
        image_device(::gnu_dev_major(stat->st_dev), ::gnu_dev_minor(stat->st_dev));
  if (TRY(in_own_namespace(task, "user"))) {
    surroundings.map_uid = TRY(id_map(task, "uid_map"));
    surroundings.map_gid = TRY(id_map(task, "gid_map"));
  }

  const MountsDescription description = describe_mounts(mounts, surroundings, context.blockers);
  Saver saver(context, task, surroundings);
  TRY(saver.save_list(description, namespace_id));
  return saver.save_contents(description, mounts);
}

}  // namespace dormouse::engine
