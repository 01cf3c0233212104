#include <pthread.h>
#include <sched.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_stage{0};

int first_allowed() {
  cpu_set_t set;
  MUST(sched_getaffinity(0, sizeof set, &set));
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) return cpu;
  return -1;
}
void* body(void* cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(*static_cast<int*>(cpu), &one);
  MUST(sched_setaffinity(0, sizeof one, &one));
  g_stage = 1;
  while (g_stage == 1) usleep(1000);
  cpu_set_t now;
  MUST(sched_getaffinity(0, sizeof now, &now));
  CHECK(CPU_EQUAL(&one, &now));
  return nullptr;
}
}  // namespace

WORKLOAD("a thread that is bound to a processor stays so, and the others stay free") {
  cpu_set_t all, now;
  MUST(sched_getaffinity(0, sizeof all, &all));
  int cpu = first_allowed();
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, &cpu), 0);
  while (g_stage == 0) usleep(100);
  workload::checkpoint_here();
  MUST(sched_getaffinity(0, sizeof now, &now));
  CHECK(CPU_EQUAL(&all, &now));
  g_stage = 2;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}
