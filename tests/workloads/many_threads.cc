#include <pthread.h>

#include "tests/workloads/workload.h"

namespace {

constexpr unsigned kThreads = 1000;
pthread_barrier_t g_barrier;
thread_local unsigned t_mine;

void* keep_mine(void* mine) {
  t_mine = static_cast<unsigned>(reinterpret_cast<uintptr_t>(mine));
  pthread_barrier_wait(&g_barrier);  // all are there
  pthread_barrier_wait(&g_barrier);  // all may go
  CHECK_EQ(t_mine, static_cast<unsigned>(reinterpret_cast<uintptr_t>(mine)));
  return nullptr;
}

}  // namespace

WORKLOAD("a thousand threads stay, each with what is its own") {
  pthread_attr_t small;
  CHECK_EQ(pthread_attr_init(&small), 0);
  CHECK_EQ(pthread_attr_setstacksize(&small, 65536), 0);
  CHECK_EQ(pthread_barrier_init(&g_barrier, nullptr, kThreads + 1), 0);
  static pthread_t threads[kThreads];
  for (uintptr_t i = 0; i < kThreads; ++i)
    CHECK_EQ(pthread_create(&threads[i], &small, keep_mine, reinterpret_cast<void*>(i)), 0);
  pthread_barrier_wait(&g_barrier);
  workload::checkpoint_here();
  pthread_barrier_wait(&g_barrier);
  for (const pthread_t thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
}
