// Building a saved mount namespace anew.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "engine/restore_context.h"

namespace dormouse::engine {

// Decided before anything is touched: order, sources, and what is external. Pure.
// What it is made of: engine/mounts/mount_plan.h.
struct MountStep;
struct SharingGroup;
struct MountPlan {
  MountPlan();
  MountPlan(MountPlan&&) noexcept;
  MountPlan& operator=(MountPlan&&) noexcept;
  ~MountPlan();
  bool empty() const;                // nothing is to be built
  std::vector<MountStep> steps;      // in the order they are carried out
  std::vector<SharingGroup> groups;  // masters before those that follow them
  std::vector<Fd> archives;          // by step; see open_archives()
  std::vector<Fd> sources;           // by step; see open_sources()
};
Result<MountPlan> plan_mounts(const RestoreContext& context);
// Opens the files with the content of tmpfs instances: from inside a user namespace, the images may be out of
// reach. To be called by the engine, before the process that builds is born.
[[nodiscard]] Result<> open_archives(const RestoreContext& context, MountPlan& plan);
// Opens what the caller named by paths: the root, and externals. To be called in the new mount namespace (only mounts of
// one's own can be copied), but before the ids change: a root user of the container may have no way to them.
[[nodiscard]] Result<> open_sources(const RestoreContext& context, MountPlan& plan);
// One line for each step, for people.
std::vector<std::string> describe_plan(const MountPlan& plan);

// Runs inside the new namespaces (mount, pid, net, ipc, user, cgroup are the container's; the mount
// namespace is still a copy of the node's), in a process that is going to be the root task: builds the
// mounts below options.root, fills tmpfs instances, then pivots into the new root and lets the old one
// go. The caller's root and working directory are the new root then. Single-threaded; a failure needs no
// cleaning up, as the namespace dies with the process.
struct BuiltMounts {
  // Terminals that are mounted somewhere (/dev/console) had to be made first: index in the container's devpts,
  // and the master, which keeps it alive. Whoever restores a terminal with that index must use it.
  std::vector<std::pair<std::uint32_t, Fd>> terminals;
};
Result<BuiltMounts> build_mounts(const RestoreContext& context, const MountPlan& plan);

}  // namespace dormouse::engine
