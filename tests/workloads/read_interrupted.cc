// bits: 64 32
#include <pthread.h>
#include <sys/wait.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_ready{0};
int g_pipe[2];
void* read_blocking(void*) {
  ++g_ready;
  char byte = 0;
  CHECK_EQ(MUST(read(g_pipe[0], &byte, 1)), 1);
  CHECK_EQ(byte, 'r');
  return nullptr;
}
void* wait_blocking(void* child) {
  ++g_ready;
  workload::wait_for_success(*static_cast<pid_t*>(child));
  return nullptr;
}
}  // namespace

WORKLOAD("a blocked read and a blocked wait for a child go on and end as they should") {
  MUST(pipe(g_pipe));
  static pid_t child;
  child = workload::fork_child([] { workload::checkpoint_here(); });
  pthread_t threads[2];
  CHECK_EQ(pthread_create(&threads[0], nullptr, read_blocking, nullptr), 0);
  CHECK_EQ(pthread_create(&threads[1], nullptr, wait_blocking, &child), 0);
  while (g_ready < 2) usleep(100);
  usleep(2000);
  workload::checkpoint_here();
  MUST(write(g_pipe[1], "r", 1));
  workload::tell_to_go(child);
  for (pthread_t thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
}
