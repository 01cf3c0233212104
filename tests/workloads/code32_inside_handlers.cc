// bits: 32
#include <signal.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

namespace {
// The kernel's struct of 32-bit code: without SA_RESTORER a handler returns through the vdso.
struct KernelAction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  unsigned long mask[2];
};
void set_without_restorer(int signal, void (*handler)(int), unsigned long flags) {
  const KernelAction action{handler, flags, nullptr, {0, 0}};
  MUST(syscall(SYS_rt_sigaction, signal, &action, nullptr, sizeof action.mask));
}

int g_inside = 0;
void* g_context_stack = nullptr;

void old_style(int) {
  ++g_inside;
  raise(SIGUSR1);
  --g_inside;
}
void with_info(int signal, siginfo_t* info, void* context) {
  ++g_inside;
  CHECK_EQ(info->si_signo, signal);
  g_context_stack = static_cast<ucontext_t*>(context)->uc_stack.ss_sp;
  workload::checkpoint_here();
  CHECK_EQ(info->si_signo, signal);
  CHECK(g_context_stack == static_cast<ucontext_t*>(context)->uc_stack.ss_sp);
  --g_inside;
}
}  // namespace

WORKLOAD("32-bit code that is stopped inside two nested handlers returns from both, with its x87 registers") {
  set_without_restorer(SIGALRM, old_style, 0);
  struct sigaction action{};
  action.sa_sigaction = with_info;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  MUST(sigaction(SIGUSR1, &action, nullptr));
  double left = 0;
  asm volatile("fldpi" : : : "memory");
  const pid_t pid = getpid(), tid = static_cast<pid_t>(syscall(SYS_gettid));
  MUST(syscall(SYS_tgkill, pid, tid, SIGALRM));
  asm volatile("fstpl %0" : "=m"(left));
  CHECK(left > 3.14159 && left < 3.1416);
  CHECK_EQ(g_inside, 0);
  // And a new one, by either way.
  set_without_restorer(SIGALRM, [](int) { ++g_inside; }, SA_SIGINFO);
  MUST(raise(SIGALRM));
  set_without_restorer(SIGALRM, [](int) { ++g_inside; }, 0);
  MUST(raise(SIGALRM));
  CHECK_EQ(g_inside, 2);
}
