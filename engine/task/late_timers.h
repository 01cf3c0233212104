// POSIX timers that are late: their signal waits to be delivered, or came late when it was delivered last.
//
// A timer whose signal waits stands still. When the signal is delivered, the kernel starts it again as of its first
// expiry, and the periods that went by meanwhile are its overruns, which timer_getoverrun() tells until the next delivery
// (kernel/time/posix-timers.c: posixtimer_deliver_signal()). So a timer that is started as of the right time in the past
// is as late as it was.
#pragma once

#include <signal.h>
#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <map>
#include <optional>
#include <span>

#include "base/error.h"
#include "parasite/host/area.h"
#include "parasite/host/program.h"

namespace dormouse::pb {
class core_entry;
class posix_timer_entry;
class siginfo_entry;
class task_timers_entry;
}  // namespace dormouse::pb

namespace dormouse::engine {

// Empty if its size is wrong.
std::optional<siginfo_t> info_of(const pb::siginfo_entry& queued);
// Which timer has sent it; null: none.
const pb::posix_timer_entry* sender_of(const siginfo_t& info, const pb::task_timers_entry& timers);
bool repeats(const pb::posix_timer_entry& timer);

// When a timer in which `left` remains until its next expiry must have begun to wait to have so many overruns by now. In
// nanoseconds of its clock; that has not run for so long: its beginning.
std::int64_t late_since(std::int64_t now, const itimerspec& left, std::uint32_t overruns);
// Starts it so, with the interval of `timer`, and waits until it has expired. `clock`: the timer's.
void append_late_start(parasite::Program& program, std::uint32_t id, std::uint32_t clock, const itimerspec& timer,
                       std::int64_t since);

std::int64_t nanoseconds(const timespec& time);

// --- restoring ----------------------------------------------------------------------------------
struct LateTimer {
  std::uint32_t clock = 0;  // clockid_t
  itimerspec timer{};
  std::int64_t since = 0;
  // Its signal takes its place in the queue. Else it has overruns of its last delivery, which only another one can give it:
  // its signal is taken, and those that wait, if any, are queued as they are.
  bool waits = false;
};
// By id. All other timers start with what was left.
using LateTimers = std::map<std::uint32_t, LateTimer>;

// Of all threads of a process, the leader's first.
using Cores = std::span<const pb::core_entry* const>;

// What the clocks of late timers say: read by the process itself, which may live in another time namespace.
class TimerClocks {
 public:
  // Appends nothing if no timer is late.
  void ask(parasite::Program& program, Cores cores);
  void take(const parasite::Placed& placed);
  void set(std::uint32_t clock, std::int64_t now) { now_[clock] = now; }
  Result<LateTimers> plan(Cores cores) const;

 private:
  std::map<std::uint32_t, parasite::DataRef> asked_;
  std::map<std::uint32_t, std::int64_t> now_;  // nanoseconds
};

// Those that do not wait and of which this thread gets the signals (the leader those of the process as well). Before it has
// any signals queued.
void append_overruns(parasite::Program& program, const pb::task_timers_entry& from, const LateTimers& late,
                     std::uint32_t thread, bool is_leader);

}  // namespace dormouse::engine
