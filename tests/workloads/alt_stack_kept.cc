// bits: 64 32
#include <pthread.h>
#include <signal.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
constexpr size_t kBytes = 64 << 10;
std::atomic<int> g_stage{0};
std::atomic<bool> g_on_it{false};
alignas(16) char g_main_stack[kBytes], g_thread_stack[kBytes];

void expect_stack(char* memory) {
  stack_t now{};
  MUST(sigaltstack(nullptr, &now));
  CHECK_EQ(now.ss_sp, static_cast<void*>(memory));
  CHECK_EQ(now.ss_size, kBytes);
}
void set_stack(char* memory) {
  const stack_t stack{.ss_sp = memory, .ss_flags = 0, .ss_size = kBytes};
  MUST(sigaltstack(&stack, nullptr));
}
void handler(int) {
  char here;
  g_on_it = &here >= g_main_stack && &here < g_main_stack + kBytes;
}
// Waits inside a handler, that is on the alternate stack itself.
void wait_on_it(int) {
  g_stage = 1;
  while (g_stage == 1) usleep(1000);
}
void* body(void*) {
  set_stack(g_thread_stack);
  CHECK_EQ(pthread_kill(pthread_self(), SIGHUP), 0);
  expect_stack(g_thread_stack);
  return nullptr;
}
}  // namespace

WORKLOAD("alternate signal stacks stay, also the one in use") {
  struct sigaction action{};
  action.sa_flags = SA_ONSTACK;
  action.sa_handler = handler;
  MUST(sigaction(SIGUSR1, &action, nullptr));
  action.sa_handler = wait_on_it;
  MUST(sigaction(SIGHUP, &action, nullptr));
  set_stack(g_main_stack);
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  while (g_stage == 0) usleep(100);
  workload::checkpoint_here();
  expect_stack(g_main_stack);
  MUST(raise(SIGUSR1));
  CHECK(g_on_it);
  g_stage = 2;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}
