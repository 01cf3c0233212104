#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/workloads/workload.h"

namespace {
// One timer for each signal, which is blocked.
struct Timer {
  int id = -1, signal = 0;
  sigset_t only{};

  Timer(int number, long interval_ns) : signal(SIGRTMIN + number) {
    sigemptyset(&only);
    sigaddset(&only, signal);
    MUST(sigprocmask(SIG_BLOCK, &only, nullptr));
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = signal;
    event.sigev_value.sival_int = number;
    CHECK_EQ(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id), 0L);
    const itimerspec soon{{0, interval_ns}, {0, 1'000'000}};
    CHECK_EQ(syscall(SYS_timer_settime, id, 0, &soon, nullptr), 0L);
  }
  bool take() const {
    siginfo_t info{};
    const timespec now{};
    if (sigtimedwait(&only, &info, &now) != signal) return false;
    CHECK_EQ(info.si_code, SI_TIMER);
    CHECK_EQ(info.si_timerid, id);
    CHECK_EQ(info.si_value.sival_int, signal - SIGRTMIN);
    return true;
  }
};
}  // namespace

WORKLOAD("what a timer sent and nobody took waits on if the timer is there, and is dropped with it") {
  const Timer once(0, 0), often(1, 3'000'000), deleted(2, 3'000'000), probe(3, 0);
  usleep(20'000);
  CHECK_EQ(syscall(SYS_timer_delete, deleted.id), 0L);
  CHECK_EQ(syscall(SYS_timer_delete, probe.id), 0L);
  const bool dropped = !probe.take();  // since Linux 6.13
  workload::checkpoint_here();
  CHECK(once.take());
  CHECK(!once.take());
  CHECK(often.take());
  CHECK_EQ(deleted.take(), !dropped);
  usleep(20'000);
  CHECK(often.take());
  CHECK(!once.take());
}
