// A tiny process that does one last thing to one file if the engine dies.
//
// Kernel state such as a frozen cgroup outlives the process that made it. The watchdog waits for the
// engine's end and undoes it. It shares no memory with the engine, leads its own session (so that a
// terminal's signals do not reach it), and holds nothing open but what it needs.
#pragma once

#include <sys/types.h>

#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/fd.h"

namespace dormouse::sys {

class Watchdog {
 public:
  // Runs in a copy of a process that may be in any state: nothing but system calls.
  using LastAct = void (*)(int file, std::string_view words);

  Watchdog() = default;
  // Writes `last_words`, at most 63 bytes. `file` is the caller's.
  static Result<Watchdog> start(int file, std::string_view last_words);
  static Result<Watchdog> start(int file, LastAct act, std::string_view last_words = {});
  Watchdog(Watchdog&& other) noexcept
      : pid_(std::exchange(other.pid_, 0)), pidfd_(std::move(other.pidfd_)) {}
  Watchdog& operator=(Watchdog&& other) noexcept;
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog() { dismiss(); }

  // Ends it without a word; it is reaped when this returns.
  void dismiss() noexcept;
  explicit operator bool() const { return pid_ > 0; }
  // For tests: becomes readable when the watchdog has ended.
  int pidfd() const { return pidfd_.get(); }

 private:
  pid_t pid_ = 0;
  Fd pidfd_;
};

}  // namespace dormouse::sys
