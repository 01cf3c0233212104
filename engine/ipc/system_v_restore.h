// System V objects made again in a new IPC namespace, with their ids.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/error.h"
#include "engine/ipc/system_v.h"
#include "engine/restore_context.h"

namespace dormouse::engine {

// What the images hold, read and checked beforehand: from inside a user namespace they may be out of reach.
struct SystemVPlan {
  const std::map<std::uint64_t, ImageSegment>* segments = nullptr;
  std::map<std::uint32_t, Fd> page_files;  // by the number that PageRun::file has
  std::vector<SavedSemaphores> semaphores;
  std::vector<SavedQueue> queues;

  // The limits under which all of it can be made: at least `limits`.
  pb::ipc_var_entry limits_needed(pb::ipc_var_entry limits) const;
};
// `number`: of the IPC namespace.
Result<SystemVPlan> plan_system_v(const RestoreContext& context, std::uint32_t number);

// In the namespace, by a process that stays: it becomes their creator. Needs CAP_CHECKPOINT_RESTORE in the
// namespace's user namespace to choose ids (Linux 5.19; before, the node's root).
[[nodiscard]] Result<> make_system_v(const RestoreContext& context, const SystemVPlan& plan);

}  // namespace dormouse::engine
