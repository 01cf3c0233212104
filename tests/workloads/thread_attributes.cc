#include <linux/prctl.h>
#include <pthread.h>
#include <sys/prctl.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_stage{0};

// Each thread has its own; the second's are made different from the leader's.
struct Attributes {
  int slack, mce_kill, tsc, store_bypass;
};
Attributes now() {
  Attributes all{};
  all.slack = prctl(PR_GET_TIMERSLACK);
  all.mce_kill = prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);
  MUST(prctl(PR_GET_TSC, &all.tsc));
  all.store_bypass = prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0);
  return all;
}
void check_same(const Attributes& a, const Attributes& b) {
  CHECK_EQ(a.slack, b.slack);
  CHECK_EQ(a.mce_kill, b.mce_kill);
  CHECK_EQ(a.tsc, b.tsc);
  CHECK_EQ(a.store_bypass, b.store_bypass);
}

void* body(void*) {
  MUST(prctl(PR_SET_TIMERSLACK, 77'000));
  MUST(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
  MUST(prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
  // Not every processor has this weakness, and then there is no switch for it.
  (void)prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0);
  const Attributes before = now();
  CHECK_EQ(before.slack, 77'000);
  CHECK_EQ(before.tsc, PR_TSC_SIGSEGV);
  g_stage = 1;
  while (g_stage == 1) usleep(1000);
  check_same(now(), before);
  return nullptr;
}
}  // namespace

WORKLOAD("timer slack, what to do about damaged memory, the time stamp counter and speculation stay, each thread its own") {
  MUST(prctl(PR_SET_TIMERSLACK, 123));
  const Attributes before = now();
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  while (g_stage == 0) usleep(100);
  workload::checkpoint_here();
  check_same(now(), before);
  g_stage = 2;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}
