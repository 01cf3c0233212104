#include "shim/crash_log.h"

#include <unistd.h>

#include <atomic>
#include <cstring>

namespace dormouse::shim {
namespace {

std::atomic<LogFile*> dying_log = nullptr;

// Formatting in a handler is not safe in theory. The process is lost anyway, and in practice the
// line is there, unless the fault hit the allocator itself.
void last_words(int signal) {
  // The disposition was reset on entry (SA_RESETHAND): a second fault ends the process at once.
  if (LogFile* log = dying_log.exchange(nullptr)) {
    log->flush();
    log->error(Error::conflict(format("killed by {}", ::sigdescr_np(signal)), EINTR)
                   .object(format("process {}", ::getpid())));
  }
  ::raise(signal);
}

}  // namespace

CrashLog::CrashLog(LogFile& log) {
  dying_log = &log;
  struct ::sigaction action {};
  action.sa_handler = last_words;
  action.sa_flags = SA_RESETHAND;
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], nullptr, &before_[i]);
    // What the caller had us ignore stays ignored (nohup).
    if (before_[i].sa_handler != SIG_IGN) ::sigaction(kSignals[i], &action, nullptr);
  }
}

CrashLog::~CrashLog() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &before_[i], nullptr);
  dying_log = nullptr;
}

}  // namespace dormouse::shim
