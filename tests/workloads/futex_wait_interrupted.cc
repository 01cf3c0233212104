// bits: 64 32
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_ready{0};
int g_plain = 0, g_timed = 0;

long futex(int* word, int operation, int value, const timespec* timeout) {
  return syscall(SYS_futex, word, operation, value, timeout, nullptr, 0);
}
void* plain(void*) {
  ++g_ready;
  CHECK_EQ(futex(&g_plain, FUTEX_WAIT, 0, nullptr), 0L);
  return nullptr;
}
void* timed(void*) {
  ++g_ready;
  const timespec long_time{100, 0};
  CHECK_EQ(futex(&g_timed, FUTEX_WAIT_PRIVATE, 0, &long_time), 0L);
  return nullptr;
}
// Wakes until somebody was woken: the waiter may not be there yet, or not again.
void wake(int* word, int operation) {
  for (int i = 0; i < 5000; ++i) {
    if (futex(word, operation, 1, nullptr) == 1) return;
    usleep(1000);
  }
  CHECK(!"nobody waits");
}
}  // namespace

WORKLOAD("a wait on a futex that was going on, with and without a timeout, ends only by a wake") {
  pthread_t threads[2];
  CHECK_EQ(pthread_create(&threads[0], nullptr, plain, nullptr), 0);
  CHECK_EQ(pthread_create(&threads[1], nullptr, timed, nullptr), 0);
  while (g_ready < 2) usleep(100);
  usleep(2000);
  workload::checkpoint_here();
  wake(&g_plain, FUTEX_WAKE);
  wake(&g_timed, FUTEX_WAKE_PRIVATE);
  for (pthread_t thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
}
