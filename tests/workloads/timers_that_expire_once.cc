#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>
#include <vector>

#include "tests/workloads/workload.h"

// One expires each millisecond while the checkpoint comes: none is forgotten between its signal and its rest, and none of them
// comes twice.
namespace {
constexpr int kTimers = 1000;  // of each of two threads
std::atomic<int> g_begun{0};
std::atomic<bool> g_go{false};

void begin(int which, int notify) {
  sigevent event{};
  event.sigev_notify = notify;
  event.sigev_signo = SIGRTMIN + 1;
  event.sigev_value.sival_int = which;
  event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
  int id = -1;
  CHECK_EQ(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id), 0L);
  const itimerspec value{{0, 0}, {1 + which / 500, which % 500 * 2'000'000L + 1}};
  CHECK_EQ(syscall(SYS_timer_settime, id, 0, &value, nullptr), 0L);
}

void expect_each_once() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 1);
  std::vector<int> came(kTimers);
  siginfo_t info{};
  const timespec long_time{6, 0}, no_time{0, 200'000'000};
  for (int i = 0; i < kTimers; ++i) {
    CHECK_EQ(MUST(sigtimedwait(&set, &info, &long_time)), SIGRTMIN + 1);
    CHECK_EQ(info.si_code, SI_TIMER);
    CHECK_EQ(++came[static_cast<size_t>(info.si_value.sival_int)], 1);
  }
  CHECK_EQ(sigtimedwait(&set, &info, &no_time), -1);
}

void* body(void*) {
  for (int i = 0; i < kTimers; ++i) begin(i, SIGEV_THREAD_ID);
  ++g_begun;
  while (!g_go) usleep(1000);
  expect_each_once();
  return nullptr;
}
}  // namespace

WORKLOAD("timers that expire once do so once, whenever in a checkpoint they expire") {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 1);
  MUST(sigprocmask(SIG_BLOCK, &set, nullptr));
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  while (g_begun == 0) usleep(100);
  for (int i = 0; i < kTimers; ++i) begin(i, SIGEV_SIGNAL);
  usleep(1'000'000);
  workload::checkpoint_here();
  expect_each_once();
  g_go = true;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}
