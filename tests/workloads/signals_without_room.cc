// bits: 64 32
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

namespace {
siginfo_t take(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  siginfo_t info{};
  const timespec now{};
  MUST(sigtimedwait(&set, &info, &now));
  return info;
}
}  // namespace

WORKLOAD("a signal that found no room in the queue still waits, also beside more than are allowed by now") {
  sigset_t all;
  sigfillset(&all);
  MUST(sigprocmask(SIG_BLOCK, &all, nullptr));
  const int real_time = SIGRTMIN + 1;
  for (int i = 0; i < 20; ++i) MUST(sigqueue(getpid(), real_time, {.sival_int = i}));
  rlimit none{};
  MUST(getrlimit(RLIMIT_SIGPENDING, &none));
  none.rlim_cur = 0;
  MUST(setrlimit(RLIMIT_SIGPENDING, &none));
  CHECK_EQ(sigqueue(getpid(), SIGHUP, {.sival_int = 7}), 0);           // to the process
  CHECK_EQ(syscall(SYS_tgkill, getpid(), getpid(), SIGTERM), 0);       // to the thread
  CHECK_EQ(sigqueue(getpid(), real_time, {.sival_int = 20}), -1);

  workload::checkpoint_here();

  for (int i = 0; i < 20; ++i) CHECK_EQ(take(real_time).si_value.sival_int, i);
  for (const int signal : {SIGHUP, SIGTERM}) {
    const siginfo_t info = take(signal);
    CHECK_EQ(info.si_code, SI_USER);
    CHECK_EQ(info.si_pid, 0);
  }
  sigset_t pending;
  MUST(sigpending(&pending));
  for (int signal = 1; signal < 65; ++signal) CHECK_EQ(sigismember(&pending, signal), 0);
}
