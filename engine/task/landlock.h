// Landlock: restrictions that a thread has put on itself. The kernel has no way to tell them, and so none to save
// them; but a thread that has some can be found, and is refused.
#pragma once

#include "base/error.h"
#include "engine/tree.h"
#include "kernel/proc/status.h"
#include "parasite/host/held_process.h"

namespace dormouse::engine {

// Whether this kernel has Landlock in force.
bool landlock_here();

// Whether the thread may have restricted itself at all, and may be asked: both need no_new_privs or CAP_SYS_ADMIN. The
// helper that asks has the thread's seccomp filters, which bite as it is not traced: such threads are not asked.
bool worth_asking_for_landlock(const proc::Status& status);

// kUnsupported if thread number `index` is inside a Landlock domain. It serves the interpreter.
[[nodiscard]] Result<> refuse_landlock(parasite::Keeper& keeper, parasite::HeldProcess& held, const Task& task,
                                       std::size_t index);

}  // namespace dormouse::engine
