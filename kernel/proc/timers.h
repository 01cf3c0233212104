// /proc/PID/timers: the POSIX timers of a process (needs CONFIG_CHECKPOINT_RESTORE).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dormouse::proc {

struct PosixTimer {
  int id = 0;
  int signal = 0;
  std::uint64_t value = 0;  // sigev_value
  int notify = 0;           // SIGEV_*
  pid_t notified = 0;       // as the reader's proc mount numbers it: a thread for SIGEV_THREAD_ID, else a process
  int clock_id = 0;         // negative: a CPU clock
  friend bool operator==(const PosixTimer&, const PosixTimer&) = default;
};

// Newest first, as the kernel lists them.
Result<std::vector<PosixTimer>> parse_timers(std::string_view text);

}  // namespace dormouse::proc
