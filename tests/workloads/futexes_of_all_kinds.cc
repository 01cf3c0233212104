#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
// Linux 5.16 and 6.7; older headers lack them.
constexpr long kFutexWaitv = 449, kFutexWake = 454, kFutexWait = 455;
constexpr unsigned kWord32 = 2;  // FUTEX2_SIZE_U32
struct Waiter {                  // struct futex_waitv
  uint64_t value, address;
  uint32_t flags, reserved;
};

pthread_mutex_t g_mutexes[3];
uint32_t g_words[2], g_condition, g_inheriting;
std::atomic<int> g_waiting{0}, g_woken{0};
std::atomic<bool> g_over{false};

timespec far_away() {
  timespec end{};
  MUST(clock_gettime(CLOCK_MONOTONIC, &end));
  end.tv_sec += 100;
  return end;
}

// Ends with all of them in its hands.
void* own(void*) {
  for (pthread_mutex_t& mutex : g_mutexes) CHECK_EQ(pthread_mutex_lock(&mutex), 0);
  ++g_waiting;
  while (!g_over) usleep(1000);
  return nullptr;
}
void* lock(void* argument) {
  auto* mutex = static_cast<pthread_mutex_t*>(argument);
  ++g_waiting;
  CHECK_EQ(pthread_mutex_lock(mutex), EOWNERDEAD);
  CHECK(g_over);
  ++g_woken;
  CHECK_EQ(pthread_mutex_consistent(mutex), 0);
  CHECK_EQ(pthread_mutex_unlock(mutex), 0);
  return nullptr;
}
void* wait_for_either(void*) {
  const Waiter both[2] = {{0, reinterpret_cast<uint64_t>(&g_words[0]), kWord32, 0},
                          {0, reinterpret_cast<uint64_t>(&g_words[1]), kWord32, 0}};
  const timespec end = far_away();
  ++g_waiting;
  CHECK_EQ(MUST(syscall(kFutexWaitv, both, 2, 0, &end, CLOCK_MONOTONIC)), 1L);
  ++g_woken;
  return nullptr;
}
void* wait_for_one(void*) {
  const timespec end = far_away();
  ++g_waiting;
  MUST(syscall(kFutexWait, &g_words[0], 0UL, 0xffff'ffffUL, kWord32, &end, CLOCK_MONOTONIC));
  ++g_woken;
  return nullptr;
}
void* wait_to_be_requeued(void*) {
  const timespec end = far_away();
  ++g_waiting;
  MUST(syscall(SYS_futex, &g_condition, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, &end, &g_inheriting, 0));
  ++g_woken;
  return nullptr;
}

void make_mutexes() {
  pthread_mutexattr_t robust;
  CHECK_EQ(pthread_mutexattr_init(&robust), 0);
  CHECK_EQ(pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST), 0);
  CHECK_EQ(pthread_mutex_init(&g_mutexes[0], &robust), 0);
  CHECK_EQ(pthread_mutexattr_setprotocol(&robust, PTHREAD_PRIO_INHERIT), 0);
  CHECK_EQ(pthread_mutex_init(&g_mutexes[1], &robust), 0);
  CHECK_EQ(pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED), 0);
  CHECK_EQ(pthread_mutex_init(&g_mutexes[2], &robust), 0);
}
}  // namespace

WORKLOAD("waits of newer kinds (futex_waitv, requeueing, owners that die with priorities lent) end as they should") {
  if (syscall(kFutexWake, &g_words[0], 0xffff'ffffUL, 1, kWord32) < 0) workload::skip("this kernel has no futex_wake()");
  make_mutexes();
  pthread_t threads[7];
  CHECK_EQ(pthread_create(&threads[0], nullptr, own, nullptr), 0);
  while (g_waiting < 1) usleep(100);
  for (int i = 0; i < 3; ++i) CHECK_EQ(pthread_create(&threads[1 + i], nullptr, lock, &g_mutexes[i]), 0);
  void* (*const waits[])(void*) = {wait_for_either, wait_for_one, wait_to_be_requeued};
  for (int i = 0; i < 3; ++i) CHECK_EQ(pthread_create(&threads[4 + i], nullptr, waits[i], nullptr), 0);
  while (g_waiting < 7) usleep(100);
  usleep(10'000);

  workload::checkpoint_here();

  usleep(10'000);
  CHECK_EQ(g_woken.load(), 0);
  g_over = true;
  for (int i = 0; i < 4; ++i) CHECK_EQ(pthread_join(threads[i], nullptr), 0);
  MUST(syscall(kFutexWake, &g_words[1], 0xffff'ffffUL, 1, kWord32));
  CHECK_EQ(pthread_join(threads[4], nullptr), 0);
  MUST(syscall(kFutexWake, &g_words[0], 0xffff'ffffUL, 1, kWord32));
  CHECK_EQ(pthread_join(threads[5], nullptr), 0);
  MUST(syscall(SYS_futex, &g_condition, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, 0, &g_inheriting, 0));
  CHECK_EQ(pthread_join(threads[6], nullptr), 0);
  CHECK_EQ(g_woken.load(), 6);
}
