// Signals of the engine's own threads.
#pragma once

#include <signal.h>

namespace dormouse {

// While this lives, the calling thread gets no signals, and threads that it starts never do. Threads of the engine's beside the
// tracer must not: a SIGCHLD that another one takes does not end the tracer's wait.
class AllSignalsBlocked {
 public:
  AllSignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  AllSignalsBlocked(const AllSignalsBlocked&) = delete;
  AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;
  ~AllSignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace dormouse
