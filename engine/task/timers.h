// Interval timers and POSIX timers of a process. (timerfds are files: engine/files.)
#pragma once

#include <signal.h>
#include <time.h>

#include <span>
#include <vector>

#include "base/error.h"
#include "engine/task/late_timers.h"
#include "engine/tree.h"
#include "kernel/proc/timers.h"
#include "parasite/host/area.h"
#include "parasite/host/program.h"

namespace dormouse::pb {
class posix_timer_entry;
class task_timers_entry;
}

namespace dormouse::engine {

// --- saving -------------------------------------------------------------------------------------
struct TimersAsked {
  parasite::DataRef intervals;  // three itimerval
  struct Posix {
    proc::PosixTimer about;
    parasite::DataRef value;
    parasite::OpRef overrun;
  };
  std::vector<Posix> posix;
  parasite::DataRef pending;  // which signals wait by then, of the process or of the thread that is asked
};
// The kernel lets go of what a timer sent when the timer is deleted or set anew, but only when the signal is about to be
// delivered (Linux 6.13), so that it is still seen in a queue. Of one that was set anew only the delivery tells
// (waiting_timers.h).
std::vector<siginfo_t> without_deleted_timers(std::vector<siginfo_t> queue, std::span<const proc::PosixTimer> timers);

// `timers`: /proc/PID/timers tells everything but the time left.
TimersAsked ask_timers(parasite::Program& program, std::span<const proc::PosixTimer> timers);
[[nodiscard]] Result<> save_timers(const parasite::Placed& placed, const TimersAsked& asked, const Task& task,
                                   pb::task_timers_entry& to);

// --- restoring ----------------------------------------------------------------------------------
// `choose_ids`: PR_TIMER_CREATE_RESTORE_IDS is there (Linux 6.15). All threads must exist, since a timer may
// signal one of them.
[[nodiscard]] Result<> append_timer_creation(parasite::Program& program, const pb::task_timers_entry& from,
                                             bool choose_ids);
// The clocks start to run: as late as possible. Those of `late` do elsewhere.
[[nodiscard]] Result<> append_timer_start(parasite::Program& program, const pb::task_timers_entry& from,
                                          const LateTimers& late = {});
// Interval and time left. kCorruptImage: out of range.
Result<itimerspec> times_of(const pb::posix_timer_entry& from);

}  // namespace dormouse::engine
