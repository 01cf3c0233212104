// Attributes of threads and processes that the reference format has no place for (dormouse-task-N): where and how
// they are scheduled, what the processor does for them, what is dumped of them.
#pragma once

#include <sys/types.h>

#include <array>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "engine/tree.h"
#include "kernel/proc/directory.h"
#include "parasite/host/area.h"
#include "parasite/host/program.h"

namespace dormouse::pb {
class thread_attributes_entry;
}

namespace dormouse::engine {

// --- saving -------------------------------------------------------------------------------------
// What /proc and system calls tell from outside. `thread`: its directory in /proc; `task.proc` leads to its /proc/PID.
[[nodiscard]] Result<> read_thread_attributes(const proc::ProcDir& thread, pb::thread_attributes_entry& to);
[[nodiscard]] Result<> read_process_attributes(const Task& task, pb::thread_attributes_entry& to);

// What only the thread itself can be asked.
struct AttributesAsked {
  parasite::OpRef timer_slack, mce_kill;
  parasite::DataRef tsc, memory_policy;
  std::array<parasite::OpRef, 3> speculation;
  std::optional<parasite::OpRef> mdwe, memory_merge, thp;  // of the process: the leader is asked
};
AttributesAsked ask_attributes(parasite::Program& program, bool leader);
void save_attributes(const parasite::Placed& placed, const AttributesAsked& asked, pb::thread_attributes_entry& to);

// --- restoring ----------------------------------------------------------------------------------
// Those of the engine itself, which puppets are born with: what is equal is not touched, as most needs privileges.
Result<pb::thread_attributes_entry> own_attributes();

// Run by the thread while it has its privileges.
// After its policy, which must be an ordinary one, and its nice value are set.
void append_slice(parasite::Program& program, const pb::thread_attributes_entry& from, int nice);
[[nodiscard]] Result<> append_thread_attributes(parasite::Program& program, const pb::thread_attributes_entry& from,
                                                const pb::thread_attributes_entry& own);
// Run by the leader when nothing is mapped any more.
void append_process_attributes(parasite::Program& program, const pb::thread_attributes_entry& from,
                               const pb::thread_attributes_entry& own);
// From outside; what the node does not allow is logged, as nothing depends on it.
void apply_attributes(Log& log, const proc::ProcDir& proc, const pb::thread_attributes_entry& from,
                      const pb::thread_attributes_entry& own);

}  // namespace dormouse::engine
