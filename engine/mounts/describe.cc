#include "engine/mounts/describe.h"

#include <sys/mount.h>

#include <algorithm>
#include <map>
#include <optional>

#include "base/format.h"
#include "base/text.h"
#include "engine/externals.h"
#include "engine/mounts/filesystems.h"

namespace dormouse::engine {

namespace {

constexpr std::string_view kDeleted = "//deleted";

struct Item {
  const proc::MountInfo* info = nullptr;
  const Filesystem* filesystem = nullptr;
  pb::mnt_entry entry;
  bool is_root = false;

  bool external() const { return entry.has_ext_key(); }
  // Made by binding a path of the node, rather than by mounting a device.
  bool external_path() const { return external() && entry.ext_key() != kExternalDevice; }
  bool whole() const { return entry.root() == "/"; }
};

std::string object_of(const proc::MountInfo& mount) {
  return format("mount {} ({}, id {})", mount.mount_point, mount.type, mount.id);
}

class Describer {
 public:
  Describer(const MountTable& mounts, const Surroundings& surroundings, Blockers& blockers)
      : mounts_(mounts),
        surroundings_(surroundings),
        options_(surroundings.options),
        auto_external_(auto_external(surroundings.options)),
        blockers_(blockers) {}

  MountsDescription run() {
    for (const auto& mount : mounts_.all())
      if (!left_out(mount)) collect(mount);
    for (auto& item : items_) find_outside(item);
    for (const auto& item : items_) check(item);
    check_tree();
    MountsDescription result;
    choose_contents(result);
    for (auto item = items_.rbegin(); item != items_.rend(); ++item)
      result.entries.push_back(std::move(item->entry));
    return result;
  }

 private:
  void refuse(const proc::MountInfo& mount, std::string reason, std::string remedy) {
    blockers_.add(Error::unsupported(std::move(reason))
                      .object(object_of(mount))
                      .owner(surroundings_.owner)
                      .remedy(std::move(remedy)));
  }

  bool left_out(const proc::MountInfo& mount) const {
    if (std::ranges::find(options_.skip_mounts, mount.mount_point) != options_.skip_mounts.end())
      return true;
    // The kernel mounts tracefs below debugfs by itself, as soon as somebody looks.
    const proc::MountInfo* const parent = mounts_.by_id(mount.parent_id);
    return mount.type == "tracefs" && parent && parent->type == "debugfs";
  }

  bool enabled(std::string_view type) const {
    for (std::string_view names : options_.enabled_filesystems)
      while (!names.empty())
        if (const auto name = take_until(names, ','); name == type || name == "all") return true;
    return false;
  }

  void collect(const proc::MountInfo& mount) {
    Item& item = items_.emplace_back();
    item.info = &mount;
    item.filesystem = filesystem_by_name(mount.type);
    item.is_root = &mount == mounts_.root();
    pb::mnt_entry& entry = item.entry;
    if (item.filesystem) {
      entry.set_fstype(item.filesystem->number);
    } else if (enabled(mount.type)) {
      entry.set_fstype(pb::AUTO);
      entry.set_fsname(mount.type);
    } else {
      entry.set_fstype(pb::UNSUPPORTED);
    }
    entry.set_mnt_id(mount.id);
    entry.set_parent_mnt_id(mount.parent_id);
    entry.set_root_dev(image_device(mount.device_major, mount.device_minor));
    entry.set_mountpoint(mount.mount_point);
    entry.set_source(mount.source);
    entry.set_shared_id(mount.shared);
    entry.set_master_id(mount.master);
    set_root(item);
    set_options(item);
  }

  void set_root(Item& item) {
    std::string_view root = item.info->root;
    if (root.ends_with(kDeleted)) {
      root.remove_suffix(kDeleted.size());
      item.entry.set_deleted(true);
    }
    // Inside a cgroup namespace the task's own cgroup is the root, whatever it is called outside.
    if (surroundings_.own_cgroup_namespace && item.info->type.starts_with("cgroup")) root = "/";
    item.entry.set_root(std::string(root));
  }

  void set_options(Item& item) {
    const proc::MountInfo& mount = *item.info;
    std::uint32_t flags = 0;
    if (auto parsed = mount_flags(mount.options)) flags = *parsed;
    else blockers_.add(std::move(parsed).error().object(object_of(mount)).owner(surroundings_.owner));
    if (mount.shared) flags |= MS_SHARED;
    if (mount.master) flags |= MS_SLAVE;
    if (mount.unbindable) flags |= MS_UNBINDABLE;

    auto [super_flags, rest] =
        super_options(mount.super_options, surroundings_.map_uid, surroundings_.map_gid);
    // The kernel does not print it; an instance other than the node's was made with it.
    if (mount.type == "devpts" && surroundings_.outside_devpts &&
        item.entry.root_dev() != surroundings_.outside_devpts) {
      if (!rest.empty()) rest += ',';
      rest += "newinstance";
    }
    item.entry.set_flags(flags);
    item.entry.set_options(std::move(rest));
    item.entry.set_sb_flags(super_flags);
  }

  // --- mounts from outside ----------------------------------------------------------------------

  void find_outside(Item& item) {
    if (item.is_root) return;
    if (const auto name = external_mount(options_, item.info->mount_point)) {
      item.entry.set_ext_key(std::string(*name));
      return;
    }
    const proc::MountInfo& mount = *item.info;
    const auto device = external_value(options_.externals, "dev",
                                       format("{}/{}", mount.device_major, mount.device_minor));
    if (device && item.whole() && item.entry.fstype() == pb::UNSUPPORTED) {
      item.entry.set_ext_key(std::string(kExternalDevice));
      item.entry.set_fstype(pb::AUTO);
      item.entry.set_fsname(mount.type);
      item.entry.set_source(format("dev[{}]", *device));
      return;
    }
    if (auto_external_.mounts && surroundings_.outside) recognise(item);
  }

  // The engine's own mount that `item` may have been bound from: the same file system, mounted with a
  // root that contains the item's, and preferably a member of the item's peer group.
  const proc::MountInfo* counterpart(const Item& item) const {
    const proc::MountInfo& mount = *item.info;
    const proc::MountInfo* best = nullptr;
    for (const auto& other : surroundings_.outside->all()) {
      if (other.device_major != mount.device_major || other.device_minor != mount.device_minor ||
          !is_below(item.entry.root(), other.root))
        continue;
      best = &other;
      if ((mount.shared && mount.shared == other.shared) ||
          (mount.master && mount.master == other.shared))
        break;
    }
    return best;
  }

  void recognise(Item& item) {
    const proc::MountInfo& mount = *item.info;
    const proc::MountInfo* const other = counterpart(item);
    if (!other) return;
    const bool sharing = options_.external_sharing || auto_external_.sharing;
    const bool masters = options_.external_masters || auto_external_.masters;
    if (mount.shared && !sharing) return;
    if (mount.master &&
        (!masters || (mount.master != other->shared && mount.master != other->master)))
      return;
    if (mount.shared && mount.shared != other->shared) item.entry.set_internal_sharing(true);

    const std::string_view rest = path_below(item.entry.root(), other->root);
    std::string path = other->mount_point;
    if (!rest.empty()) path += format("{}{}", path == "/" ? "" : "/", rest);
    item.entry.set_ext_key(std::string(kAutoExternal));
    item.entry.set_source(std::move(path));
  }

  // --- what can be rebuilt ----------------------------------------------------------------------

  bool same_filesystem(const Item& a, const Item& b) const {
    return a.entry.root_dev() == b.entry.root_dev();
  }
  template <class Predicate>
  const Item* relative(const Item& item, Predicate predicate) const {
    for (const auto& other : items_)
      if (same_filesystem(item, other) && predicate(other)) return &other;
    return nullptr;
  }
  // The mount from outside (or the root, which is one too) that `item` can be bound from.
  const Item* given_source(const Item& item) const {
    return relative(item, [&](const Item& other) {
      return (other.is_root || other.external()) && is_below(item.entry.root(), other.entry.root());
    });
  }

  void check(const Item& item) {
    if (item.external()) {
      check_master(item);
      return;
    }
    if (item.entry.deleted())
      refuse(*item.info, format("the file or directory {} it shows has been deleted", item.entry.root()),
             "unmount it, or declare it external");
    else if (!given_source(item))
      check_own(item);
    check_master(item);
  }

  void check_own(const Item& item) {
    const proc::MountInfo& mount = *item.info;
    if (item.whole()) {
      if (item.entry.fstype() == pb::UNSUPPORTED)
        refuse(mount, format("file system {} on {} cannot be saved", mount.type, mount.source),
               format("declare it with --external mnt[{}]:NAME or --external dev[{}/{}]:NAME, or allow "
                      "the type with --enable-fs {}",
                      mount.mount_point, mount.device_major, mount.device_minor, mount.type));
      else if (item.filesystem && item.filesystem->content == Content::kRefused)
        refuse(mount, "a program answers for its content, which cannot be saved",
               format("unmount it, or declare it with --external mnt[{}]:NAME", mount.mount_point));
      return;
    }
    if (!relative(item, [](const Item& other) { return other.whole(); }))
      refuse(mount,
             format("it shows {} of a file system that is mounted nowhere else in the container",
                    item.entry.root()),
             format("declare it with --external mnt[{}]:NAME", mount.mount_point));
  }

  // A follower needs its master: in the container, or at the place outside where it was bound from.
  void check_master(const Item& item) {
    const std::uint32_t master = item.info->master;
    if (!master) return;
    for (const auto& other : items_)
      if (other.info->shared == master) return;
    const Item* const source = relative(item, [&](const Item& other) {
      return (other.is_root || other.external_path()) && other.info->master == master &&
             is_below(item.entry.root(), other.entry.root());
    });
    if (!source)
      refuse(*item.info, format("it follows peer group {}, which is not in the container", master),
             "allow it with --external mnt[]:m, or make the mount private");
  }

  void check_tree() {
    if (!mounts_.root())
      blockers_.add(Error::unsupported("the root task's root is not the root of its mount namespace")
                        .object("mount table")
                        .owner(surroundings_.owner)
                        .remedy("checkpoint a task that has not called chroot"));
    // Before Linux 4.11 propagation could put two mounts on one place; which one is on top is not told.
    std::map<std::pair<std::uint32_t, std::string_view>, const proc::MountInfo*> places;
    for (const auto& item : items_) {
      const proc::MountInfo& mount = *item.info;
      const auto [place, fresh] = places.try_emplace({mount.parent_id, mount.mount_point}, &mount);
      if (!fresh)
        refuse(mount, format("mount {} is on the same place of the same parent", place->second->id),
               "unmount one of them");
      const bool has_parent = std::ranges::any_of(
          items_, [&](const Item& other) { return other.info->id == mount.parent_id; });
      if (!item.is_root && !has_parent)
        refuse(mount, "the mount it is on is not saved", "leave that one in, or skip this one too");
    }
  }

  // --- contents ---------------------------------------------------------------------------------

  // One mount stands for its file system: a visible one, if there is any.
  void choose_contents(MountsDescription& result) {
    std::map<std::uint32_t, const Item*> chosen;
    for (const auto& item : items_) {
      if (!item.filesystem || item.external() || given_source(item) || !item.whole()) continue;
      const Content content = item.filesystem->content;
      if (content != Content::kTmpfs && content != Content::kMustBeEmpty) continue;
      const Item*& best = chosen[item.entry.root_dev()];
      if (!best || (mounts_.is_hidden(*best->info) && !mounts_.is_hidden(*item.info))) best = &item;
    }
    for (const auto& item : items_) {
      const auto found = chosen.find(item.entry.root_dev());
      if (found == chosen.end() || found->second != &item) continue;
      (item.filesystem->content == Content::kTmpfs ? result.archives : result.must_be_empty)
          .push_back(item.info);
    }
  }

  const MountTable& mounts_;
  const Surroundings& surroundings_;
  const CheckpointOptions& options_;
  const AutoExternal auto_external_;
  Blockers& blockers_;
  std::vector<Item> items_;
};

}  // namespace

std::uint32_t image_device(std::uint32_t major, std::uint32_t minor) { return major << 20 | minor; }

MountsDescription describe_mounts(const MountTable& mounts, const Surroundings& surroundings,
                                  Blockers& blockers) {
  return Describer(mounts, surroundings, blockers).run();
}

}  // namespace dormouse::engine
