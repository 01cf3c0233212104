// bits: 64 32
#include <signal.h>
#include <sys/time.h>
#include <time.h>

#include "tests/workloads/workload.h"

namespace {
volatile sig_atomic_t g_alarms = 0;
void on_alarm(int) { g_alarms = g_alarms + 1; }
}  // namespace

WORKLOAD("interval timers go on with what was left, and periodic ones keep ringing") {
  struct sigaction action{};
  action.sa_handler = on_alarm;
  MUST(sigaction(SIGALRM, &action, nullptr));
  const itimerval real{{0, 20'000}, {0, 20'000}}, cpu{{5, 0}, {1000, 0}}, profile{{0, 0}, {2000, 0}};
  MUST(setitimer(ITIMER_REAL, &real, nullptr));
  MUST(setitimer(ITIMER_VIRTUAL, &cpu, nullptr));
  MUST(setitimer(ITIMER_PROF, &profile, nullptr));
  workload::checkpoint_here();
  itimerval now{};
  MUST(getitimer(ITIMER_REAL, &now));
  CHECK_EQ(now.it_interval.tv_usec, 20'000);
  MUST(getitimer(ITIMER_VIRTUAL, &now));
  CHECK_EQ(now.it_interval.tv_sec, 5);
  CHECK(now.it_value.tv_sec >= 995 && now.it_value.tv_sec <= 1000);
  MUST(getitimer(ITIMER_PROF, &now));
  CHECK_EQ(now.it_interval.tv_sec, 0);
  CHECK(now.it_value.tv_sec >= 1995 && now.it_value.tv_sec <= 2000);
  const int before = g_alarms;
  for (int i = 0; i < 200 && g_alarms < before + 3; ++i) usleep(20'000);
  CHECK(g_alarms >= before + 3);
}
