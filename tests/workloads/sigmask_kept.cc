// bits: 64 32
#include <pthread.h>
#include <signal.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_stage{0};

void block_exactly(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, workload::kGo);
  for (int signal : signals) sigaddset(&set, signal);
  CHECK_EQ(pthread_sigmask(SIG_SETMASK, &set, nullptr), 0);
}
void expect_exactly(std::initializer_list<int> signals) {
  sigset_t set;
  CHECK_EQ(pthread_sigmask(SIG_BLOCK, nullptr, &set), 0);
  for (int signal = 1; signal < 65; ++signal) {
    bool expected = signal == workload::kGo;
    for (int s : signals) expected |= s == signal;
    CHECK_EQ(sigismember(&set, signal) == 1, expected);
  }
}
void* body(void*) {
  block_exactly({SIGINT, SIGRTMAX, SIGCHLD});
  g_stage = 1;
  while (g_stage == 1) usleep(1000);
  expect_exactly({SIGINT, SIGRTMAX, SIGCHLD});
  return nullptr;
}
}  // namespace

WORKLOAD("each thread keeps its own mask of blocked signals") {
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  while (g_stage == 0) usleep(100);
  block_exactly({SIGHUP, SIGRTMIN + 3});
  workload::checkpoint_here();
  expect_exactly({SIGHUP, SIGRTMIN + 3});
  g_stage = 2;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}
