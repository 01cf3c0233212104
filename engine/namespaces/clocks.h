// Clocks that must not jump: what is saved of them, and the offsets that bring it back.
#pragma once

#include <time.h>

#include "base/error.h"
#include "kernel/proc/small.h"

namespace dormouse::engine {

// a + b and a - b, with 0 <= nanoseconds < 1e9; seconds may be negative.
proc::TimeOffset add(proc::TimeOffset a, proc::TimeOffset b);
proc::TimeOffset subtract(proc::TimeOffset a, proc::TimeOffset b);

// Monotonic and boot time as the initial time namespace has them, whatever namespace the caller is in.
Result<proc::TimeOffsets> initial_clocks();
// As a task sees them whose /proc/PID is open as `proc`.
Result<proc::TimeOffsets> clocks_of(int proc);

}  // namespace dormouse::engine
