#include "engine/mounts/mounts_restore.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "base/format.h"
#include "engine/mounts/mount_flags.h"
#include "engine/mounts/mount_plan.h"
#include "engine/mounts/tmpfs_restore.h"
#include "kernel/file.h"
#include "kernel/mount_api.h"

namespace dormouse::engine {

namespace {

// A mount point was found by the kernel without following anything, so it is looked up the same way:
// whatever the image or the root file system says, nothing outside the mount is reached.
constexpr std::uint64_t kStrictly =
    RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;

class Builder {
 public:
  Builder(const RestoreContext& context, const MountPlan& plan)
      : context_(context), plan_(plan), mounts_(plan.steps.size()) {}

  Result<BuiltMounts> run() {
    // Nothing of what follows may reach the node. Mounts that follow the node's go on doing so.
    TRY(sys::mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, {.propagation = MS_SLAVE}));
    for (std::size_t i = 0; i < plan_.steps.size(); ++i) {
      const MountStep& step = plan_.steps[i];
      TRY_OR(carry_out(static_cast<int>(i)), std::move(e).object(step.object()));
    }
    TRY_OR(enter(), std::move(e).object("new root"));
    // Only now: a shared root cannot be pivoted to, and what is mounted on a shared mount propagates.
    for (const auto& group : plan_.groups) TRY(share(group));
    for (std::size_t i = 0; i < plan_.steps.size(); ++i)
      if (plan_.steps[i].unbindable) TRY(set_propagation(static_cast<int>(i), MS_UNBINDABLE));
    return std::move(built_);
  }

 private:
  [[nodiscard]] Result<> carry_out(int number) {
    const MountStep& step = plan_.steps[number];
    Fd& mount = mounts_[number];
    switch (step.kind) {
      case MountStep::Kind::kRoot:
      case MountStep::Kind::kExternal:
        mount = TRY(sys::open_tree(plan_.sources[number].get(), "", OPEN_TREE_CLONE | AT_EMPTY_PATH));
        break;
      case MountStep::Kind::kNew:
        mount = TRY(make(number));
        break;
      case MountStep::Kind::kBind:
        break;  // made when its provider was
    }
    if (step.kind != MountStep::Kind::kNew) TRY(dress(number));
    TRY(attach(number));
    // Right now, before anything is mounted on top of what the copies show.
    for (const int other : step.copies)
      TRY_OR(copy_from(number, other), std::move(e).object(plan_.steps[other].object()));
    return {};
  }

  [[nodiscard]] Result<> copy_from(int provider, int number) {
    const std::string& path = plan_.steps[number].source;
    const Fd source = path.empty() ? TRY(sys::duplicate(mounts_[provider].get()))
                                   : TRY(open_below(provider, path));
    mounts_[number] = TRY(sys::open_tree(source.get(), "", OPEN_TREE_CLONE | AT_EMPTY_PATH));
    return {};
  }

  Result<Fd> open_below(int number, const std::string& path) const {
    return sys::openat2(mounts_[number].get(), path, O_PATH | O_NOFOLLOW | O_CLOEXEC, kStrictly);
  }

  Result<Fd> make(int number) {
    const MountStep& step = plan_.steps[number];
    const Fd context = TRY(sys::fsopen(step.type));
    if (!step.source.empty()) TRY(sys::fsconfig_string(context.get(), "source", step.source));
    for (const auto& [key, value] : split_options(step.options)) {
      // The kernel's only way of mounting devpts since 4.7; some versions no longer know the word.
      if (step.type == "devpts" && key == "newinstance") continue;
      if (value) TRY(sys::fsconfig_string(context.get(), key, *value));
      else TRY(sys::fsconfig_flag(context.get(), key));
    }
    if (step.super_flags & MS_SYNCHRONOUS) TRY(sys::fsconfig_flag(context.get(), "sync"));
    if (step.super_flags & MS_DIRSYNC) TRY(sys::fsconfig_flag(context.get(), "dirsync"));
    const bool read_only = step.super_flags & MS_RDONLY;
    if (read_only && !step.archive) TRY(sys::fsconfig_flag(context.get(), "ro"));
    TRY(sys::fsconfig_create(context.get()));
    // Writable as long as it is being filled.
    const auto attributes = static_cast<unsigned>(step.attributes);
    const bool dress_later = step.archive && (attributes & MOUNT_ATTR_RDONLY);
    Fd mount = TRY(sys::fsmount(context.get(), dress_later ? 0 : attributes));
    if (step.archive) TRY_OR(fill(mount.get(), number), std::move(e).owner(step.object()));
    if (read_only && step.archive) {
      TRY(sys::fsconfig_flag(context.get(), "ro"));
      TRY(sys::fsconfig_reconfigure(context.get()));
    }
    if (dress_later) TRY(set_attributes(mount.get(), step.attributes, 0));
    for (const std::uint32_t index : step.terminals)
      TRY_OR(make_terminal(mount.get(), index), std::move(e).during(format("make terminal {}", index)));
    return mount;
  }

  // The kernel gives the lowest free index, so those below are taken for a moment.
  [[nodiscard]] Result<> make_terminal(int devpts, std::uint32_t index) {
    std::vector<Fd> lower;
    for (;;) {
      Fd master = TRY(sys::openat(devpts, "ptmx", O_RDWR | O_NOCTTY));
      unsigned got = 0;
      TRY(sys::ioctl(master.get(), TIOCGPTN, &got));
      if (got > index) return fail(Error::corrupt("its index is taken by another one"));
      if (got == index) {
        built_.terminals.emplace_back(index, std::move(master));
        return {};
      }
      lower.push_back(std::move(master));
    }
  }

  [[nodiscard]] Result<> fill(int mount, int number) {
    return restore_tmpfs(mount, TRY(sys::duplicate(plan_.archives[number].get())), context_.log);
  }

  [[nodiscard]] static Result<> set_attributes(int mount, std::uint64_t attributes,
                                               std::uint64_t propagation) {
    return sys::mount_setattr(mount, "", AT_EMPTY_PATH,
                              {.attr_set = attributes,
                               .attr_clear = all_mount_attributes() & ~(attributes & ~MOUNT_ATTR__ATIME),
                               .propagation = propagation});
  }

  // A copy has the options and the propagation of its source.
  [[nodiscard]] Result<> dress(int number) {
    const MountStep& step = plan_.steps[number];
    return set_attributes(mounts_[number].get(), step.attributes, step.keep_master ? 0 : MS_PRIVATE);
  }

  [[nodiscard]] Result<> attach(int number) {
    const MountStep& step = plan_.steps[number];
    const int mount = mounts_[number].get();
    if (step.parent == -1)
      return sys::move_mount(mount, "", plan_.sources[number].get(), "",
                             MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    Fd place;
    if (!step.target.empty())
      place = TRY_OR(open_below(step.parent, step.target),
                     std::move(e).remedy("the mount point must exist in the root file system"));
    return sys::move_mount(mount, "", place ? place.get() : mounts_[step.parent].get(), "",
                           MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
  }

  // pivot_root(".", ".") stacks the old root on top of the new one, where umount2() finds it.
  [[nodiscard]] Result<> enter() {
    if (::fchdir(mounts_.front().get()) == -1) return fail(Error::kernel("fchdir", errno));
    const auto pivoted = sys::pivot_root(".", ".");
    if (pivoted) {
      TRY(sys::umount2(".", MNT_DETACH));
    } else if (pivoted.error().is_kernel(EINVAL)) {
      // An initramfs cannot be pivoted away from: cover it.
      TRY(sys::move_mount(mounts_.front().get(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH));
      if (::chroot(".") == -1) return fail(Error::kernel("chroot", errno));
    } else {
      return pivoted;
    }
    if (::chdir("/") == -1) return fail(Error::kernel("chdir", errno));
    return {};
  }

  // --- propagation ------------------------------------------------------------------------------

  [[nodiscard]] Result<> set_propagation(int number, std::uint64_t propagation) {
    TRY_OR(sys::mount_setattr(mounts_[number].get(), "", AT_EMPTY_PATH, {.propagation = propagation}),
           std::move(e).object(plan_.steps[number].object()));
    return {};
  }
  // Makes one mount, which must be private, a member of all that the other is a member of.
  [[nodiscard]] Result<> give_membership(int from, int to) {
    TRY_OR(sys::move_mount(mounts_[from].get(), "", mounts_[to].get(), "",
                           MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH | abi::kMoveMountSetGroup),
           std::move(e).object(plan_.steps[to].object()));
    return {};
  }

  [[nodiscard]] Result<> share(const SharingGroup& group) {
    const int first = group.members.front();
    if (group.master_step != -1) {
      TRY(give_membership(group.master_step, first));
      TRY(set_propagation(first, MS_SLAVE));
    }
    const bool master_outside = group.master_id && group.master_step == -1;
    // All of them are copies that follow the group outside, if the node's mount is in one.
    if (master_outside && !group.shared_id) return {};
    if (group.shared_id) TRY(set_propagation(first, MS_SHARED));
    for (const int member : group.members) {
      if (member == first) continue;
      if (master_outside) TRY(set_propagation(member, MS_PRIVATE));
      TRY(give_membership(first, member));
    }
    return {};
  }

  const RestoreContext& context_;
  const MountPlan& plan_;
  std::vector<Fd> mounts_;  // by step
  BuiltMounts built_;
};

}  // namespace

Result<> open_archives(const RestoreContext& context, MountPlan& plan) {
  plan.archives.resize(plan.steps.size());
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    const MountStep& step = plan.steps[i];
    if (step.archive)
      plan.archives[i] = TRY_OR(context.in.open_raw(images::kTmpfsDev, *step.archive),
                                std::move(e).owner(step.object()));
  }
  return {};
}

// Links in a path are followed, as in any path of the caller.
Result<> open_sources(const RestoreContext& context, MountPlan& plan) {
  plan.sources.resize(plan.steps.size());
  for (std::size_t i = 0; i < plan.steps.size(); ++i) {
    const MountStep& step = plan.steps[i];
    const bool root = step.kind == MountStep::Kind::kRoot;
    if (!root && step.kind != MountStep::Kind::kExternal) continue;
    plan.sources[i] = TRY_OR(sys::openat(AT_FDCWD, root ? context.options.root : step.source, O_PATH),
                             std::move(e).object(step.object()));
  }
  return {};
}

Result<BuiltMounts> build_mounts(const RestoreContext& context, const MountPlan& plan) {
  if (plan.empty()) return BuiltMounts();
  return Builder(context, plan).run();
}

}  // namespace dormouse::engine
