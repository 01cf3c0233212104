// bits: 64 32
#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

namespace {
constexpr int kThreads = 40;
thread_local long t_number = -1;
thread_local pid_t t_tid;
sem_t g_started, g_go;

void* body(void* argument) {
  const long number = reinterpret_cast<long>(argument);
  char on_stack[9000];
  workload::fill_pattern(on_stack, sizeof on_stack, static_cast<uint32_t>(number));
  t_number = number;
  t_tid = static_cast<pid_t>(syscall(SYS_gettid));
  errno = static_cast<int>(number);  // lives in thread-local storage too
  sem_post(&g_started);
  while (sem_wait(&g_go) != 0) {
  }
  CHECK_EQ(errno, static_cast<int>(number));
  CHECK_EQ(t_number, number);
  CHECK_EQ(syscall(SYS_gettid), t_tid);
  CHECK(workload::has_pattern(on_stack, sizeof on_stack, static_cast<uint32_t>(number)));
  return argument;
}
}  // namespace

WORKLOAD("threads keep their ids, their thread-local variables and their stacks") {
  sem_init(&g_started, 0, 0);
  sem_init(&g_go, 0, 0);
  pthread_t threads[kThreads];
  for (long i = 0; i < kThreads; ++i) CHECK_EQ(pthread_create(&threads[i], nullptr, body, reinterpret_cast<void*>(i)), 0);
  for (int i = 0; i < kThreads; ++i) MUST(sem_wait(&g_started));
  t_number = 4711;
  workload::checkpoint_here();
  CHECK_EQ(t_number, 4711);
  for (int i = 0; i < kThreads; ++i) sem_post(&g_go);
  for (long i = 0; i < kThreads; ++i) {
    void* result = nullptr;
    CHECK_EQ(pthread_join(threads[i], &result), 0);
    CHECK_EQ(reinterpret_cast<long>(result), i);
  }
}
