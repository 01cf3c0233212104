// flavours: host
#include <pthread.h>

#include <vector>

#include "tests/workloads/workload.h"

namespace {
constexpr long kThreads = 1200;
thread_local long t_number = -1;
pthread_barrier_t g_barrier;

void* body(void* argument) {
  t_number = reinterpret_cast<long>(argument);
  pthread_barrier_wait(&g_barrier);  // all are there
  pthread_barrier_wait(&g_barrier);  // all may go
  return reinterpret_cast<void*>(t_number);
}
}  // namespace

WORKLOAD("a process of 1,200 threads keeps all of them") {
  pthread_attr_t small;
  CHECK_EQ(pthread_attr_init(&small), 0);
  CHECK_EQ(pthread_attr_setstacksize(&small, 65536), 0);
  CHECK_EQ(pthread_barrier_init(&g_barrier, nullptr, kThreads + 1), 0);
  std::vector<pthread_t> threads(kThreads);
  for (long i = 0; i < kThreads; ++i) CHECK_EQ(pthread_create(&threads[static_cast<size_t>(i)], &small, body, reinterpret_cast<void*>(i)), 0);
  pthread_barrier_wait(&g_barrier);
  workload::checkpoint_here();
  pthread_barrier_wait(&g_barrier);
  for (long i = 0; i < kThreads; ++i) {
    void* result = nullptr;
    CHECK_EQ(pthread_join(threads[static_cast<size_t>(i)], &result), 0);
    CHECK_EQ(reinterpret_cast<long>(result), i);
  }
}
