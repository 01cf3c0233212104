// Bringing task state back: operations appended to puppets' programs, and the registers set last.
#pragma once

#include <sys/user.h>

#include <cstddef>
#include <vector>

#include "engine/restore_context.h"
#include "parasite/host/program.h"

namespace dormouse::engine {

struct Registers {
  user_regs_struct general{};
  std::vector<std::byte> xstate;  // for PTRACE_SETREGSET NT_X86_XSTATE on this CPU
  std::uint64_t signal_mask = 0;
};
// From a thread's core image. kUnsupported naming the component if this CPU lacks state that is in use.
Result<Registers> registers_of(const pb::core_entry& core);

// What belongs to the process, run once by its leader after memory and descriptors are in place and
// before credentials: signal actions, interval and POSIX timers, limits, personality, dumpable,
// child subreaper, shared pending signals, …
[[nodiscard]] Result<> append_process_state(parasite::Program& program, const RestoreContext& context,
                                            const ImageTask& task);
// What belongs to one thread, run by each: name, scheduling, alternate stack, robust list,
// clear_child_tid, rseq, pending signals, parent death signal, no_new_privs, and last credentials and
// capabilities, then seccomp. `core` is that thread's. Order constraints are explained in the .cc.
[[nodiscard]] Result<> append_thread_state(parasite::Program& program, const RestoreContext& context,
                                           const ImageTask& task, const pb::core_entry& core);

// What the engine does from outside while the puppet is held: oom_score_adj, loginuid, rlimits by prlimit
// where the engine may, scheduling where only a privileged process may.
[[nodiscard]] Result<> apply_from_outside(const RestoreContext& context, const ImageTask& task, pid_t pid);

}  // namespace dormouse::engine
