// Building a saved mount namespace anew.
#pragma once

#include <memory>
#include <vector>

#include "engine/restore_context.h"

namespace dormouse::engine {

// Decided before anything is touched: order, sources, and what is external. Pure.
struct MountStep;
struct MountPlan {
  MountPlan();
  MountPlan(MountPlan&&) noexcept;
  ~MountPlan();
  std::vector<MountStep> steps;
};
Result<MountPlan> plan_mounts(const RestoreContext& context);

// Runs inside the new namespaces (mount, pid, net, ipc, user, cgroup are the container's; the mount
// namespace is still a copy of the node's), in a process that is going to be the root task: builds the
// mounts below options.root, fills tmpfs instances, then pivots into the new root and lets the old one
// go. Single-threaded; a failure needs no cleaning up, as the namespace dies with the process.
[[nodiscard]] Result<> build_mounts(const RestoreContext& context, const MountPlan& plan);

}  // namespace dormouse::engine
