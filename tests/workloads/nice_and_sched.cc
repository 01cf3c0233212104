#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_stage{0};
void* body(void*) {
  const sched_param none{};
  MUST(sched_setscheduler(0, SCHED_BATCH, &none));
  MUST(setpriority(PRIO_PROCESS, 0, 15));  // of this thread alone, in Linux
  MUST(prctl(PR_SET_TIMERSLACK, 123'456));
  g_stage = 1;
  while (g_stage == 1) usleep(1000);
  CHECK_EQ(sched_getscheduler(0), SCHED_BATCH);
  errno = 0;
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), 15);
  return nullptr;
}
}  // namespace

WORKLOAD("nice values and scheduling policies stay, each thread its own") {
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  while (g_stage == 0) usleep(100);
  MUST(setpriority(PRIO_PROCESS, 0, 5));
  const sched_param idle{};
  const pid_t child = workload::fork_child([&] {
    MUST(sched_setscheduler(0, SCHED_IDLE, &idle));
    workload::checkpoint_here();
    CHECK_EQ(sched_getscheduler(0), SCHED_IDLE);
  });
  workload::checkpoint_here();
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), 5);
  CHECK_EQ(sched_getscheduler(0), SCHED_OTHER);
  g_stage = 2;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
  workload::join(child);
}
