// bits: 64 32
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

namespace {
void send(int signal, int value) { MUST(sigqueue(getpid(), signal, {.sival_int = value})); }

siginfo_t take(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  siginfo_t info{};
  const timespec now{};
  // Not through glibc, which hides SI_TKILL.
  MUST(syscall(SYS_rt_sigtimedwait, &set, &info, &now, 8));
  return info;
}
}  // namespace

WORKLOAD("signals that wait to be delivered stay, with their order and what they carry") {
  sigset_t all;
  sigfillset(&all);
  MUST(sigprocmask(SIG_BLOCK, &all, nullptr));
  const int real_time = SIGRTMIN + 2;
  for (int i = 0; i < 5; ++i) send(real_time, 100 + i);  // to the process: one queue
  send(SIGALRM, 7);
  CHECK_EQ(syscall(SYS_tgkill, getpid(), getpid(), SIGHUP), 0);  // to the thread: another

  workload::checkpoint_here();

  sigset_t pending;
  MUST(sigpending(&pending));
  CHECK(sigismember(&pending, real_time) && sigismember(&pending, SIGALRM) && sigismember(&pending, SIGHUP));
  for (int i = 0; i < 5; ++i) {
    const siginfo_t info = take(real_time);
    CHECK_EQ(info.si_value.sival_int, 100 + i);
    CHECK_EQ(info.si_code, SI_QUEUE);
    CHECK_EQ(info.si_pid, getpid());
  }
  CHECK_EQ(take(SIGALRM).si_value.sival_int, 7);
  CHECK_EQ(take(SIGHUP).si_code, SI_TKILL);
  MUST(sigpending(&pending));
  for (int signal = 1; signal < 65; ++signal) CHECK_EQ(sigismember(&pending, signal), 0);
}
