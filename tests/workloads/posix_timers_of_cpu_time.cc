#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_stage{0};
std::atomic<int> g_rang[3];
int g_of_thread = -1;

int create(clockid_t clock, int notify, int which) {
  sigevent event{};
  event.sigev_notify = notify;
  event.sigev_signo = SIGRTMIN + which;
  if (notify == SIGEV_THREAD_ID) event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
  int id = -1;  // the kernel's own number, which glibc hides
  CHECK_EQ(syscall(SYS_timer_create, clock, &event, &id), 0L);
  return id;
}
void set(int id) {
  const itimerspec value{{0, 5'000'000}, {0, 5'000'000}};
  CHECK_EQ(syscall(SYS_timer_settime, id, 0, &value, nullptr), 0L);
}
void rings(int number) { g_rang[number - SIGRTMIN] = g_rang[number - SIGRTMIN] + 1; }

void* body(void*) {
  // (Not CLOCK_THREAD_CPUTIME_ID, which the kernel stores as "its creator's" and a restore under its full name.)
  clockid_t own;
  CHECK_EQ(pthread_getcpuclockid(pthread_self(), &own), 0);
  g_of_thread = create(own, SIGEV_THREAD_ID, 0);
  set(g_of_thread);
  g_stage = 1;
  while (g_stage == 1) usleep(1000);
  while (g_stage == 2) {}  // uses time
  return nullptr;
}
}  // namespace

WORKLOAD("timers of CPU time, the process's, the own thread's and another thread's, go on with that time") {
  for (int i = 0; i < 3; ++i) signal(SIGRTMIN + i, rings);
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  while (g_stage == 0) usleep(100);
  clockid_t other;
  CHECK_EQ(pthread_getcpuclockid(thread, &other), 0);
  set(create(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, 1));
  set(create(other, SIGEV_SIGNAL, 2));
  workload::checkpoint_here();
  // As good as nobody uses time now: what rings rings for the other thread's sake.
  g_stage = 2;
  for (int i = 0; i < 3; ++i) g_rang[i] = 0;
  for (int i = 0; i < 500 && (g_rang[0] < 3 || g_rang[1] < 3 || g_rang[2] < 3); ++i) usleep(10'000);
  CHECK(g_rang[0] >= 3 && g_rang[1] >= 3 && g_rang[2] >= 3);
  g_stage = 3;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}
