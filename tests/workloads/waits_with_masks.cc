// bits: 64 32
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include <atomic>

#include "tests/workloads/workload.h"

// Each thread waits with another mask than its own, in a call that puts its own back when it ends.
namespace {

constexpr int kKinds = 4;
std::atomic<int> g_waiting{0};
thread_local int t_got = 0;
int g_epoll = -1;

int signal_of(int kind) { return SIGRTMIN + 3 + kind; }
void on_signal(int signal) { t_got = signal; }

int wait_somehow(int kind, const sigset_t* mask) {
  epoll_event event{};
  switch (kind) {
    case 0: return sigsuspend(mask);
    case 1: return ppoll(nullptr, 0, nullptr, mask);
    case 2: return pselect(0, nullptr, nullptr, nullptr, nullptr, mask);
  }
  return epoll_pwait(g_epoll, &event, 1, -1, mask);
}

sigset_t mask_now() {
  sigset_t mask;
  CHECK_EQ(pthread_sigmask(SIG_SETMASK, nullptr, &mask), 0);
  return mask;
}

void* body(void* argument) {
  const int kind = static_cast<int>(reinterpret_cast<intptr_t>(argument));
  // Everything is blocked, but in the wait all but one.
  sigset_t meanwhile;
  sigfillset(&meanwhile);
  sigdelset(&meanwhile, signal_of(kind));
  ++g_waiting;
  errno = 0;
  CHECK_EQ(wait_somehow(kind, &meanwhile), -1);
  CHECK_EQ(errno, EINTR);
  CHECK_EQ(t_got, signal_of(kind));
  const sigset_t mask = mask_now();
  CHECK(sigismember(&mask, SIGUSR1) == 1 && sigismember(&mask, signal_of(kind)) == 1 && sigismember(&mask, SIGHUP) == 0);
  return nullptr;
}

}  // namespace

WORKLOAD("waits with a mask of their own go on with it, and put the thread's back") {
  g_epoll = MUST(epoll_create1(0));
  struct sigaction action{};
  action.sa_handler = on_signal;
  sigset_t own;
  sigemptyset(&own);
  sigaddset(&own, SIGUSR1);
  sigaddset(&own, workload::kGo);
  for (int kind = 0; kind < kKinds; ++kind) {
    sigaddset(&own, signal_of(kind));
    MUST(sigaction(signal_of(kind), &action, nullptr));
  }
  CHECK_EQ(pthread_sigmask(SIG_SETMASK, &own, nullptr), 0);
  pthread_t threads[kKinds];
  for (intptr_t kind = 0; kind < kKinds; ++kind)
    CHECK_EQ(pthread_create(&threads[kind], nullptr, body, reinterpret_cast<void*>(kind)), 0);
  while (g_waiting < kKinds) usleep(100);
  usleep(5000);
  workload::checkpoint_here();
  usleep(20'000);
  for (int kind = 0; kind < kKinds; ++kind) CHECK_EQ(pthread_kill(threads[kind], signal_of(kind)), 0);
  for (pthread_t thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
}
