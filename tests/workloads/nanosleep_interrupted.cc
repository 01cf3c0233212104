// bits: 64 32
// driver: --moving
#include <pthread.h>
#include <time.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_ready{0};
int64_t now_ms() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000LL + t.tv_nsec / 1'000'000;
}
void* relative(void*) {
  const int64_t start = now_ms();
  const timespec time{0, 700'000'000};
  ++g_ready;
  CHECK_EQ(nanosleep(&time, nullptr), 0);
  CHECK(now_ms() - start >= 700);
  return nullptr;
}
void* absolute(void*) {
  timespec end{};
  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_sec += 1;
  ++g_ready;
  CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, nullptr), 0);
  CHECK(now_ms() >= end.tv_sec * 1000LL + end.tv_nsec / 1'000'000);
  return nullptr;
}
}  // namespace

WORKLOAD("a sleep that was going on ends neither early nor with a failure") {
  pthread_t threads[2];
  CHECK_EQ(pthread_create(&threads[0], nullptr, relative, nullptr), 0);
  CHECK_EQ(pthread_create(&threads[1], nullptr, absolute, nullptr), 0);
  while (g_ready < 2) usleep(100);
  workload::checkpoint_here();
  for (pthread_t thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
}
