#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
constexpr int kSetSyscallUserDispatch = 59;  // PR_SET_SYSCALL_USER_DISPATCH
std::atomic<char> g_blocked{0};              // SYSCALL_DISPATCH_FILTER_ALLOW, then _BLOCK
std::atomic<int> g_caught{0};
std::atomic<bool> g_ready{false}, g_over{false}, g_unknown{false};

void handler(int, siginfo_t*, void*) {
  g_blocked = 0;
  ++g_caught;
}

// Makes no system call until it is told to, and that one comes back to it.
void* body(void*) {
  g_unknown = prctl(kSetSyscallUserDispatch, 1, 0, 0, &g_blocked) != 0;
  g_blocked = 1;
  g_ready = true;
  while (!g_over) asm volatile("pause");
  syscall(SYS_getuid);
  return nullptr;
}
}  // namespace

WORKLOAD("has a thread whose system calls are handed back to it") {
  struct sigaction action{};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  MUST(sigaction(SIGSYS, &action, nullptr));
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  while (!g_ready) usleep(100);
  if (g_unknown) workload::skip("this kernel has no system call user dispatch");
  workload::checkpoint_here();
  CHECK_EQ(g_caught.load(), 0);
  g_over = true;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
  CHECK_EQ(g_caught.load(), 1);
}
