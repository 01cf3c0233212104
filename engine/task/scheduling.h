// How a thread is scheduled: policy, priority, nice value.
#pragma once

#include <sys/types.h>

#include "kernel/abi.h"
#include "parasite/host/program.h"

namespace dormouse::pb {
class thread_core_entry;
}

namespace dormouse::engine {

// The parameters of SCHED_DEADLINE have no place in the format, so such a thread is an ordinary one to readers that
// know no more; the rest is in engine/task/attributes.h.
void save_scheduling(const abi::SchedAttr& attr, int nice, pb::thread_core_entry& to);
void append_scheduling(parasite::Program& program, const pb::thread_core_entry& from);

}  // namespace dormouse::engine
