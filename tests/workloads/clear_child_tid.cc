// bits: 64 32
#include <pthread.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<bool> g_go{false};
void* wait_for_go(void*) {
  while (!g_go) usleep(500);
  return nullptr;
}
void* join_other(void* other) {
  CHECK_EQ(pthread_join(*static_cast<pthread_t*>(other), nullptr), 0);
  return nullptr;
}
}  // namespace

WORKLOAD("a thread that ends wakes the one that joins it, which was already waiting or not") {
  pthread_t waited_for, joiner, late;
  CHECK_EQ(pthread_create(&waited_for, nullptr, wait_for_go, nullptr), 0);
  CHECK_EQ(pthread_create(&late, nullptr, wait_for_go, nullptr), 0);
  CHECK_EQ(pthread_create(&joiner, nullptr, join_other, &waited_for), 0);
  usleep(5000);
  workload::checkpoint_here();
  g_go = true;
  CHECK_EQ(pthread_join(joiner, nullptr), 0);
  CHECK_EQ(pthread_join(late, nullptr), 0);
}
