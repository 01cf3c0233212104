// bits: 64 32
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
constexpr int64_t kSecond = 1'000'000'000;
std::atomic<int> g_stage{0};

int create(clockid_t clock, int notify, int signal) {
  sigevent event{};
  event.sigev_notify = notify;
  event.sigev_signo = signal;
  if (notify == SIGEV_THREAD_ID) event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
  int id = -1;  // the kernel's own number, which glibc hides
  CHECK_EQ(syscall(SYS_timer_create, clock, &event, &id), 0L);
  return id;
}
int64_t now(clockid_t clock) {
  timespec time;
  MUST(clock_gettime(clock, &time));
  return int64_t{time.tv_sec} * kSecond + time.tv_nsec;
}
// As if it had begun so many periods ago, and then some, and nobody had taken its signal. `left`: until its next period.
void begin_late(int id, clockid_t clock, int64_t period, int64_t periods, int64_t left = -1) {
  if (left < 0) left = period / 2;
  const int64_t since = now(clock) - period * (periods + 1) + left;
  const itimerspec value{{static_cast<time_t>(period / kSecond), static_cast<long>(period % kSecond)},
                         {static_cast<time_t>(since / kSecond), static_cast<long>(since % kSecond)}};
  CHECK_EQ(syscall(SYS_timer_settime, id, TIMER_ABSTIME, &value, nullptr), 0L);
}
long overruns(int id) { return syscall(SYS_timer_getoverrun, id); }

siginfo_t take(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  const timespec deadline{5, 0};
  siginfo_t info{};
  CHECK_EQ(MUST(sigtimedwait(&set, &info, &deadline)), signal);
  CHECK_EQ(info.si_code, SI_TIMER);
  return info;
}
void expect(int signal, int id, int count) {
  const siginfo_t info = take(signal);
  CHECK_EQ(info.si_timerid, id);
  CHECK_EQ(info.si_overrun, count);
  CHECK_EQ(overruns(id), long{count});
}
void expect_nothing(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  const timespec no_time{0, 0};
  CHECK_EQ(sigtimedwait(&set, nullptr, &no_time), -1);
  CHECK_EQ(errno, EAGAIN);
}

void* body(void*) {
  const int waits = create(CLOCK_REALTIME, SIGEV_THREAD_ID, SIGRTMIN + 1);
  const int taken = create(CLOCK_REALTIME, SIGEV_THREAD_ID, SIGRTMIN + 2);
  begin_late(waits, CLOCK_REALTIME, 100 * kSecond, 7);
  begin_late(taken, CLOCK_REALTIME, 100 * kSecond, 8);
  expect(SIGRTMIN + 2, taken, 8);
  g_stage = 1;
  while (g_stage == 1) usleep(1000);
  expect(SIGRTMIN + 1, waits, 7);
  CHECK_EQ(overruns(taken), 8L);
  expect_nothing(SIGRTMIN + 1);
  expect_nothing(SIGRTMIN + 2);
  return nullptr;
}
}  // namespace

WORKLOAD("timers whose signal waits overrun on, and those whose signal came keep how often they overran") {
  sigset_t set;
  sigemptyset(&set);
  for (int i = 1; i <= 6; ++i) sigaddset(&set, SIGRTMIN + i);
  MUST(sigprocmask(SIG_BLOCK, &set, nullptr));
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  while (g_stage == 0) usleep(100);

  constexpr int64_t kPeriod = kSecond / 5;
  const int goes_on = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 3);
  const int64_t begun = now(CLOCK_MONOTONIC);
  begin_late(goes_on, CLOCK_MONOTONIC, kPeriod, 40);
  // Two of the same signal, in this order.
  const int second = create(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 4);
  const int first = create(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 4);
  begin_late(first, CLOCK_REALTIME, 100 * kSecond, 3);
  usleep(1000);
  begin_late(second, CLOCK_REALTIME, 50 * kSecond, 5);
  const int taken = create(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 5);
  begin_late(taken, CLOCK_REALTIME, 1000 * kSecond, 30);
  expect(SIGRTMIN + 5, taken, 30);
  CHECK_EQ(overruns(first), 0L);
  // The next signal waits already, while somebody is still busy with the one before.
  const int busy = create(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 6);
  begin_late(busy, CLOCK_REALTIME, 100 * kSecond, 9, kSecond / 50);
  CHECK_EQ(take(SIGRTMIN + 6).si_overrun, 9);
  usleep(30'000);

  workload::checkpoint_here();

  CHECK_EQ(overruns(busy), 9L);
  take(SIGRTMIN + 6);
  CHECK_EQ(overruns(taken), 30L);
  itimerspec left{};
  CHECK_EQ(syscall(SYS_timer_gettime, taken, &left), 0L);
  CHECK(left.it_value.tv_sec >= 450 && left.it_value.tv_sec < 500);
  expect(SIGRTMIN + 4, first, 3);
  expect(SIGRTMIN + 4, second, 5);
  expect_nothing(SIGRTMIN + 4);
  expect_nothing(SIGRTMIN + 5);
  const siginfo_t info = take(SIGRTMIN + 3);
  const int64_t since = now(CLOCK_MONOTONIC) - begun;
  const int64_t least = 40, most = 41 + since / kPeriod;
  if (info.si_overrun < least) CHECK_EQ(int64_t{info.si_overrun}, least);
  if (info.si_overrun > most) CHECK_EQ(int64_t{info.si_overrun}, most);
  CHECK_EQ(overruns(goes_on), long{info.si_overrun});
  take(SIGRTMIN + 3);  // and so on
  g_stage = 2;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}
