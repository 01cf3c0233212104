// Bringing task state back: operations appended to puppets' programs, and the registers set last.
#pragma once

#include <sys/user.h>

#include <cstddef>
#include <vector>

#include "engine/restore_context.h"
#include "engine/task/late_timers.h"
#include "parasite/host/program.h"

namespace dormouse::engine {

struct Registers {
  user_regs_struct general{};
  std::vector<std::byte> xstate;  // for PTRACE_SETREGSET NT_X86_XSTATE on this CPU
  std::uint64_t signal_mask = 0;
};
// From a thread's core image. kUnsupported naming the component if this CPU lacks state that is in use.
Result<Registers> registers_of(const pb::core_entry& core);

// For a thread in a ptrace stop whose TLS segments are set.
[[nodiscard]] Result<> set_general_registers(pid_t tid, const user_regs_struct& registers);

// What the engine has itself, and puppets therefore are born with. What is the same in the image needs not be set,
// and no privilege to set it.
struct Inherited {
  pb::thread_attributes_entry attributes;
  std::uint32_t login_uid = 0;
  static Result<Inherited> of_engine();
};

// Of all threads of a task that is alive, the leader's first.
std::vector<const pb::core_entry*> cores_of(const ImageTask& task);

// What belongs to the process, run once by its leader after memory and descriptors are in place, after its
// threads and children were born and helpers among them have ended, and before any append_thread_state():
// signal actions, POSIX timers, child subreaper, membarrier registrations. All signals must be blocked in all threads
// until their registers are set.
[[nodiscard]] Result<> append_process_state(parasite::Program& program, const RestoreContext& context,
                                            const ImageTask& task);
// Signals that wait, run by each thread after append_process_state() is done (an action may discard them) and before
// apply_from_outside() (a limit may not allow so many). `core` is that thread's; the leader has the process's, too.
// `late`: timers that start as of a time in the past (TimerClocks::plan()); they send what waits of theirs.
[[nodiscard]] Result<> append_queued_signals(parasite::Program& program, const ImageTask& task, const pb::core_entry& core,
                                             const LateTimers& late);
// What belongs to one thread, run by each, and its last program: name, scheduling, alternate stack, robust
// list, clear_child_tid, rseq; then seccomp filters (the thread must be traced with
// PTRACE_O_SUSPEND_SECCOMP, or they bite at once) and, as nothing privileged works after them, credentials,
// dumpable, parent death signal. The leader's ends by starting the timers. `core` is that thread's. `late`: timers that
// start as of a time in the past (TimerClocks::plan()).
//
// A thread that shares memory with nobody (a forked puppet) must not have rseq registered any more.
[[nodiscard]] Result<> append_thread_state(parasite::Program& program, const RestoreContext& context,
                                           const ImageTask& task, const pb::core_entry& core,
                                           const Inherited& inherited, const LateTimers& late);

// What the engine does from outside while the puppet is held, after descriptors and memory are in place (limits
// may not allow them any more): oom_score_adj, what a core dump has, resource limits.
[[nodiscard]] Result<> apply_from_outside(const RestoreContext& context, const ImageTask& task, pid_t pid,
                                          const Inherited& inherited);

}  // namespace dormouse::engine
