// How a thread is scheduled: policy, priority, nice value.
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "kernel/abi.h"
#include "parasite/host/program.h"

namespace dormouse::pb {
class thread_core_entry;
}

namespace dormouse::engine {

// kUnsupported for SCHED_DEADLINE, whose parameters have no place in the format.
[[nodiscard]] Result<> save_scheduling(const abi::SchedAttr& attr, pb::thread_core_entry& to);
void append_scheduling(parasite::Program& program, const pb::thread_core_entry& from);

}  // namespace dormouse::engine
