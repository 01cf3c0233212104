// bits: 64 32
#include <signal.h>

#include "tests/workloads/workload.h"

namespace {
int g_seen = 0;
int g_value = 0;
void plain(int) { ++g_seen; }
void with_info(int, siginfo_t* info, void*) {
  ++g_seen;
  g_value = info->si_value.sival_int;
}
}  // namespace

WORKLOAD("handlers, ignored signals, their masks and flags stay") {
  struct sigaction action{};
  action.sa_handler = plain;
  action.sa_flags = SA_RESTART | SA_NODEFER;
  sigaddset(&action.sa_mask, SIGWINCH);
  sigaddset(&action.sa_mask, SIGRTMIN + 5);
  MUST(sigaction(SIGUSR1, &action, nullptr));
  struct sigaction real_time{};
  real_time.sa_sigaction = with_info;
  real_time.sa_flags = SA_SIGINFO | SA_ONSTACK;
  MUST(sigaction(SIGRTMAX, &real_time, nullptr));
  MUST(signal(SIGPIPE, SIG_IGN) == SIG_ERR ? -1 : 0);

  workload::checkpoint_here();

  struct sigaction now{};
  MUST(sigaction(SIGUSR1, nullptr, &now));
  CHECK(now.sa_handler == plain);
  CHECK_EQ(now.sa_flags & (SA_RESTART | SA_NODEFER | SA_SIGINFO | SA_ONSTACK), SA_RESTART | SA_NODEFER);
  CHECK(sigismember(&now.sa_mask, SIGWINCH) && sigismember(&now.sa_mask, SIGRTMIN + 5) && !sigismember(&now.sa_mask, SIGTERM));
  MUST(sigaction(SIGRTMAX, nullptr, &now));
  CHECK(now.sa_sigaction == with_info);
  CHECK_EQ(now.sa_flags & (SA_RESTART | SA_NODEFER | SA_SIGINFO | SA_ONSTACK), SA_SIGINFO | SA_ONSTACK);
  MUST(sigaction(SIGPIPE, nullptr, &now));
  CHECK(now.sa_handler == SIG_IGN);
  MUST(sigaction(SIGTERM, nullptr, &now));
  CHECK(now.sa_handler == SIG_DFL);

  MUST(raise(SIGUSR1));
  MUST(raise(SIGPIPE));
  MUST(sigqueue(getpid(), SIGRTMAX, {.sival_int = 99}));
  CHECK_EQ(g_seen, 2);
  CHECK_EQ(g_value, 99);
}
