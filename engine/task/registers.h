// A thread's registers: the kernel's structures on one side, the image's thread_info on the other.
#pragma once

#include "base/error.h"
#include "engine/task/task_restore.h"
#include "engine/task/xstate_layout.h"
#include "parasite/host/context.h"

namespace dormouse::pb {
class core_entry;
class thread_info_x86;
}  // namespace dormouse::pb

namespace dormouse::engine {

// Fills gpregs and fpregs. kUnsupported if the thread uses state that the format has no place for (AMX
// tiles, …).
[[nodiscard]] Result<> save_registers(const XstateLayout& cpu, const parasite::Context& context,
                                      pb::thread_info_x86& to);

// What registers_of() of task_restore.h does, for a CPU of one's choice.
Result<Registers> registers_for(const XstateLayout& cpu, const pb::core_entry& core);

}  // namespace dormouse::engine
