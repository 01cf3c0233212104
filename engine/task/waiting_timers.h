// How many overruns timers have whose signal waits at a checkpoint. The kernel counts them when it delivers the signal, so
// it is made to: the engine takes the signal, and at once has the timer expire again as of the same time (late_timers.h).
#pragma once

#include <signal.h>

#include <cstddef>
#include <vector>

#include "base/error.h"
#include "parasite/host/held_process.h"

namespace dormouse::pb {
class posix_timer_entry;
class signal_queue_entry;
class task_timers_entry;
}  // namespace dormouse::pb

namespace dormouse::engine {

// Of a process (first) and of its threads, in the order of HeldProcess::threads().
using SignalQueues = std::vector<pb::signal_queue_entry*>;

// The waiting signals of one number, all of them of timers.
struct WaitingTimers {
  std::size_t queue = 0;  // in SignalQueues
  int signal = 0;
  std::vector<const pb::posix_timer_entry*> timers;  // in the order of their signals
};
// Those of which a delivery tells something and changes nothing: a timer that has overruns of its last delivery would lose
// them.
std::vector<WaitingTimers> find_waiting_timers(const SignalQueues& queues, const pb::task_timers_entry& timers);

// A timer expired `another` time after its signal was taken, as if it had not been: it has overrun. False: none of them was
// its signal.
bool add_expiry(std::vector<siginfo_t>& taken, const siginfo_t& another);

// Puts their overruns into their signals in `queues` (si_overrun), which have 0 until they are delivered, and what was left of
// their periods by then into `timers`. Signals that the kernel would not deliver, since their timer was set anew meanwhile,
// leave the queue. The process must be in the interpreter. Should the engine die in between, it queues the signals itself;
// where it could not (can_tidy()), nothing is taken.
[[nodiscard]] Result<> count_overruns(parasite::Keeper& keeper, parasite::HeldProcess& held, const SignalQueues& queues,
                                      pb::task_timers_entry& timers);

}  // namespace dormouse::engine
