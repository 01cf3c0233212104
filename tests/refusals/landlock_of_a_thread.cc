#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<bool> g_restricted{false}, g_over{false};

void* restrict_self(void*) {
  const uint64_t handled = 1;  // LANDLOCK_ACCESS_FS_EXECUTE
  const long ruleset = MUST(syscall(SYS_landlock_create_ruleset, &handled, sizeof handled, 0));
  MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  CHECK_EQ(syscall(SYS_landlock_restrict_self, static_cast<int>(ruleset), 0), 0L);
  close(static_cast<int>(ruleset));
  g_restricted = true;
  while (!g_over) usleep(1000);
  return nullptr;
}
}  // namespace

WORKLOAD("has a thread that has restricted itself with Landlock, while its main thread has not") {
  if (syscall(SYS_landlock_create_ruleset, nullptr, 0, 1) < 0) workload::skip("this kernel has no Landlock");
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, restrict_self, nullptr), 0);
  while (!g_restricted) usleep(100);
  workload::checkpoint_here();
  g_over = true;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}
