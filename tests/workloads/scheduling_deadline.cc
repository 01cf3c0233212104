#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
// Linux 3.14; the kernel's header does not go with the C library's.
struct DeadlineAttr {
  uint32_t size = 48, policy = 6;  // SCHED_DEADLINE
  uint64_t flags = 1;              // SCHED_FLAG_RESET_ON_FORK
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 2'000'000, deadline = 20'000'000, period = 40'000'000;
};

std::atomic<int> g_stage{0};

// Of the thread itself, so that the kernel need not be asked for another's.
void* body(void*) {
  const DeadlineAttr wanted;
  MUST(setpriority(PRIO_PROCESS, 0, 5));  // of this thread
  if (syscall(SYS_sched_setattr, 0, &wanted, 0) != 0) workload::skip("no deadlines for us here");
  g_stage = 1;
  while (g_stage == 1) usleep(10'000);
  DeadlineAttr now;
  now.runtime = 0;
  MUST(syscall(SYS_sched_getattr, 0, &now, sizeof now, 0));
  CHECK_EQ(now.policy, wanted.policy);
  CHECK_EQ(now.flags, wanted.flags);
  CHECK_EQ(now.runtime, wanted.runtime);
  CHECK_EQ(now.deadline, wanted.deadline);
  CHECK_EQ(now.period, wanted.period);
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), 5);
  return nullptr;
}
}  // namespace

WORKLOAD("a thread that is scheduled by deadlines keeps its runtime, deadline and period") {
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  while (g_stage == 0) usleep(100);
  workload::checkpoint_here();
  g_stage = 2;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}
