// Landlock: restrictions that a thread has put on itself. The kernel has no way to tell them, and so none to save
// them; but a thread that has some can be found, and is refused.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/error.h"
#include "engine/tree.h"
#include "kernel/proc/status.h"
#include "parasite/host/held_process.h"

namespace dormouse::engine {

// Whether this kernel has Landlock in force.
bool landlock_here();

// Numbers of the threads of a process that are to be asked. A thread may have restricted itself, and may be asked, only
// with no_new_privs or CAP_SYS_ADMIN. The helper that asks has the thread's seccomp filters, which bite as it is not
// traced: such threads are not asked. Of many that have the same credentials only the first few are: threads inherit the
// domain of who made them, and to ask a thousand takes longer than all the rest.
std::vector<std::size_t> threads_to_ask_for_landlock(std::span<const proc::Status* const> threads);

// kUnsupported if thread number `index` is inside a Landlock domain. It serves the interpreter.
[[nodiscard]] Result<> refuse_landlock(parasite::Keeper& keeper, parasite::HeldProcess& held, const Task& task,
                                       std::size_t index);

}  // namespace dormouse::engine
