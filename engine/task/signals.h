// Signals: what the process does about them, what is queued, and each thread's alternate stack. (The
// blocked ones travel with the registers.)
#pragma once

#include <signal.h>

#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/task/late_timers.h"
#include "parasite/host/area.h"
#include "parasite/host/program.h"

namespace dormouse::pb {
class signal_queue_entry;
class task_core_entry;
class thread_sas_entry;
}  // namespace dormouse::pb

namespace dormouse::engine {

// "SIGUSR1", "real-time signal 34".
std::string signal_name(int number);

// --- saving -------------------------------------------------------------------------------------
struct SignalActionsAsked {
  parasite::DataRef answers;
};
SignalActionsAsked ask_signal_actions(parasite::Program& program);
// `by_32_bit_code`: which kind of code set them, and is to be called: the kernel does not tell, but remembers.
void save_signal_actions(const parasite::Placed& placed, SignalActionsAsked asked, bool by_32_bit_code,
                         pb::task_core_entry& to);

// A signal for which there was no room in the queue (RLIMIT_SIGPENDING) still waits, but carries nothing: as the kernel
// delivers it, from nobody. `pending`: those that wait, bit n-1 for signal n.
std::vector<siginfo_t> with_unqueued(std::vector<siginfo_t> queue, std::uint64_t pending);
void save_queue(std::span<const siginfo_t> queue, pb::signal_queue_entry& to);
void save_alternate_stack(const stack_t& stack, pb::thread_sas_entry& to);

// --- restoring ----------------------------------------------------------------------------------
// Also discards the SIGCHLD that the birth of the tree may have left behind.
[[nodiscard]] Result<> append_signal_actions(parasite::Program& program, const pb::task_core_entry& from);

enum class QueueOf : std::uint8_t { kProcess, kThread };
// To be run with all signals blocked and after the actions are set: a signal whose action is to be
// ignored would not be queued, and one that is set to be ignored later would be discarded. Signals of timers that wait are
// sent by those timers, which must be there.
[[nodiscard]] Result<> append_queue(parasite::Program& program, const pb::signal_queue_entry& from, QueueOf of,
                                    const LateTimers& late = {});
void append_alternate_stack(parasite::Program& program, const pb::thread_sas_entry& from);

}  // namespace dormouse::engine
