// bits: 64 32
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/workloads/workload.h"

namespace {
int create(clockid_t clock, int notify, int signal, int value) {
  sigevent event{};
  event.sigev_notify = notify;
  event.sigev_signo = signal;
  event.sigev_value.sival_int = value;
  if (notify == SIGEV_THREAD_ID) event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
  int id = -1;  // the kernel's own number, which glibc hides
  CHECK_EQ(syscall(SYS_timer_create, clock, &event, &id), 0L);
  return id;
}
void set(int id, const itimerspec& value) { CHECK_EQ(syscall(SYS_timer_settime, id, 0, &value, nullptr), 0L); }
itimerspec get(int id) {
  itimerspec value{};
  CHECK_EQ(syscall(SYS_timer_gettime, id, &value), 0L);
  return value;
}
}  // namespace

WORKLOAD("timers keep their ids, also with gaps, their clocks, times, intervals and what they send") {
  sigset_t set_of_one;
  sigemptyset(&set_of_one);
  sigaddset(&set_of_one, SIGRTMIN + 1);
  MUST(sigprocmask(SIG_BLOCK, &set_of_one, nullptr));
  const int unused = create(CLOCK_REALTIME, SIGEV_NONE, 0, 0);
  const int periodic = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 4711);
  const int gap = create(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0);
  const int far = create(CLOCK_BOOTTIME, SIGEV_THREAD_ID, SIGRTMIN + 2, 5);
  CHECK_EQ(syscall(SYS_timer_delete, gap), 0L);
  set(far, {{3, 500}, {1000, 0}});
  set(periodic, {{0, 10'000'000}, {0, 10'000'000}});

  workload::checkpoint_here();

  const itimerspec left = get(far);
  CHECK_EQ(left.it_interval.tv_sec, 3);
  CHECK_EQ(left.it_interval.tv_nsec, 500);
  CHECK(left.it_value.tv_sec >= 990 && left.it_value.tv_sec < 1000);
  CHECK_EQ(get(unused).it_value.tv_sec, 0);
  CHECK_EQ(get(periodic).it_interval.tv_nsec, 10'000'000);
  siginfo_t info{};
  const timespec deadline{5, 0};
  for (int i = 0; i < 3; ++i) {
    CHECK_EQ(MUST(sigtimedwait(&set_of_one, &info, &deadline)), SIGRTMIN + 1);
    CHECK_EQ(info.si_code, SI_TIMER);
    CHECK_EQ(info.si_timerid, periodic);
    CHECK_EQ(info.si_value.sival_int, 4711);
  }
  // The next id follows the last one given out, as if nothing had happened.
  CHECK_EQ(create(CLOCK_REALTIME, SIGEV_NONE, 0, 0), far + 1);
}
