// Timers that expire while their process is looked at. Which signals wait is read before its threads enter the interpreter, and the
// timers are asked there: of one that expires in between nothing would be left, neither its time nor its signal.
#pragma once

#include <signal.h>

#include <cstdint>
#include <set>
#include <vector>

#include "base/error.h"
#include "engine/task/waiting_timers.h"
#include "parasite/host/held_process.h"

namespace dormouse::engine {

// Whose signals wait.
struct TimerSignals {
  std::set<std::uint32_t> timers;  // ids of POSIX timers
  std::set<int> intervals;         // of kIntervalSignals
};
inline constexpr int kIntervalSignals[] = {SIGALRM, SIGVTALRM, SIGPROF};
TimerSignals timer_signals(const SignalQueues& queues, const pb::task_timers_entry& timers);

// The timers were asked between `before` and `now`. One that sends its signal once has nothing left if that has come: it does not
// matter which came first, question or signal. Result: those that repeat and whose signal has come, to be asked again. They stand
// still until it is delivered.
std::vector<pb::posix_timer_entry*> mark_expired(const TimerSignals& before, const TimerSignals& now,
                                                 pb::task_timers_entry& timers);

[[nodiscard]] Result<> ask_again(parasite::Keeper& keeper, parasite::HeldProcess& held,
                                 const std::vector<pb::posix_timer_entry*>& timers);

}  // namespace dormouse::engine
