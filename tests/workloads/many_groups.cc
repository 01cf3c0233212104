#include <grp.h>
#include <pthread.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
constexpr int kGroups = 10'000, kThreads = 30;
std::atomic<bool> g_over{false};

void check_groups() {
  static thread_local gid_t now[kGroups + 1];
  CHECK_EQ(MUST(getgroups(kGroups + 1, now)), kGroups);
  for (int i = 0; i < kGroups; ++i) CHECK_EQ(now[i], 3u * static_cast<gid_t>(i) + 1);
}
void* body(void*) {
  while (!g_over) usleep(1000);
  check_groups();
  return nullptr;
}
}  // namespace

WORKLOAD("a process of many threads that is in thousands of groups stays in them") {
  static gid_t groups[kGroups];
  for (int i = 0; i < kGroups; ++i) groups[i] = 3u * static_cast<gid_t>(i) + 1;
  if (setgroups(kGroups, groups) < 0) workload::skip("groups may not be set here");
  pthread_t threads[kThreads];
  for (pthread_t& thread : threads) CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  workload::checkpoint_here();
  g_over = true;
  check_groups();
  for (const pthread_t thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
}
