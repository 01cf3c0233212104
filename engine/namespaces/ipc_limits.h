// The limits of an IPC namespace: the sysctls that belong to one.
#pragma once

#include "base/error.h"
#include "base/log.h"
#include "images/schema/ipc.pb.h"

namespace dormouse::engine {

// Of the caller's IPC namespace, through the caller's /proc.
Result<pb::ipc_var_entry> read_ipc_limits();
// Of each limit the higher one.
pb::ipc_var_entry higher_limits(const pb::ipc_var_entry& one, const pb::ipc_var_entry& other);
// Only what differs is written. Limits that this kernel lacks, or does not let the caller change, are logged.
[[nodiscard]] Result<> write_ipc_limits(const pb::ipc_var_entry& limits, Log& log);

}  // namespace dormouse::engine
