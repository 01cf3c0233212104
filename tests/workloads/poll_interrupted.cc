// bits: 64 32
#include <poll.h>
#include <pthread.h>
#include <sys/select.h>
#include <sys/syscall.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_ready{0};
int g_pipe[2];

void* poll_for_ever(void*) {
  ++g_ready;
  pollfd wanted{g_pipe[0], POLLIN, 0};
  CHECK_EQ(MUST(poll(&wanted, 1, -1)), 1);
  CHECK_EQ(wanted.revents, POLLIN);
  return nullptr;
}
void* poll_with_timeout(void*) {
  ++g_ready;
  pollfd wanted{g_pipe[0], POLLIN, 0};
  CHECK_EQ(MUST(poll(&wanted, 1, 100'000)), 1);
  return nullptr;
}
void* select_for_ever(void*) {
  ++g_ready;
  fd_set wanted;
  FD_ZERO(&wanted);
  FD_SET(g_pipe[0], &wanted);
  CHECK_EQ(MUST(select(g_pipe[0] + 1, &wanted, nullptr, nullptr, nullptr)), 1);
  return nullptr;
}
}  // namespace

WORKLOAD("poll and select that were going on wait on, and then see what comes") {
  MUST(pipe(g_pipe));
  pthread_t threads[3];
  CHECK_EQ(pthread_create(&threads[0], nullptr, poll_for_ever, nullptr), 0);
  CHECK_EQ(pthread_create(&threads[1], nullptr, poll_with_timeout, nullptr), 0);
  CHECK_EQ(pthread_create(&threads[2], nullptr, select_for_ever, nullptr), 0);
  while (g_ready < 3) usleep(100);
  usleep(2000);
  workload::checkpoint_here();
  MUST(write(g_pipe[1], "x", 1));
  for (pthread_t thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
}
