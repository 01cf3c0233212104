// Saving a mount namespace: its mounts (mountpoints-N.img) and the content of its tmpfs instances.
#pragma once

#include "engine/dump_context.h"
#include "engine/mounts/mount_table.h"

namespace dormouse::engine {

// `task` lives in the namespace; `namespace_id` is its number in ids-PID.img (mnt_ns_id). Mounts that
// cannot be saved (an unknown file system, an external bind that was not named, sharing with outside)
// become blockers. Also saves tmpfs content (a gzip tar, read through the task's root), which is only
// consistent while the tasks are stopped.
[[nodiscard]] Result<> save_mounts(DumpContext& context, const Task& task, const MountTable& mounts,
                                   std::uint32_t namespace_id);

}  // namespace dormouse::engine
