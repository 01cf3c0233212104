// A log that is buffered loses its last lines when its process is killed, and those are the ones
// that tell why. While a CrashLog lives, they are written out before the process dies of a signal.
#pragma once

#include <signal.h>

#include <array>

#include "shim/log_file.h"

namespace dormouse::shim {

class CrashLog {
 public:
  // `log` is the caller's. At most one at a time: what a signal handler can reach is one per
  // process.
  explicit CrashLog(LogFile& log);
  CrashLog(const CrashLog&) = delete;
  CrashLog& operator=(const CrashLog&) = delete;
  ~CrashLog();

  // Faults of ours, and what people and service managers send. SIGKILL is beyond help.
  static constexpr std::array kSignals{SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT,
                                       SIGTERM, SIGINT, SIGHUP, SIGQUIT};

 private:
  std::array<struct ::sigaction, kSignals.size()> before_{};
};

}  // namespace dormouse::shim
