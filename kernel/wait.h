// Waiting for a descriptor, never for ever by accident.
#pragma once

#include <chrono>

#include "base/error.h"

namespace dormouse::sys {

class Deadline {
 public:
  static Deadline in(std::chrono::milliseconds time) { return Deadline(Clock::now() + time); }
  // Rounded up: a wait of 0 ms would spin through the last fraction.
  int remaining_ms() const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(at_ - Clock::now()).count();
    return left > 0 ? static_cast<int>(left) : 0;
  }

 private:
  using Clock = std::chrono::steady_clock;
  explicit Deadline(Clock::time_point at) : at_(at) {}
  Clock::time_point at_;
};

// True once the descriptor reports any of `events` (POLLIN, POLLPRI, …) or an error condition; false when
// the deadline has passed. Signals do not end the wait.
Result<bool> wait_for(int fd, short events, const Deadline& deadline);

}  // namespace dormouse::sys
