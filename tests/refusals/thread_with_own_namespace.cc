#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<bool> g_apart{false}, g_over{false};

void* body(void*) {
  MUST(unshare(CLONE_NEWUTS));
  MUST(sethostname("another", 7));
  g_apart = true;
  while (!g_over) usleep(1000);
  char name[64];
  MUST(gethostname(name, sizeof name));
  CHECK_EQ(name, "another");
  return nullptr;
}
}  // namespace

WORKLOAD("has a thread with a namespace of its own") {
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  while (!g_apart) usleep(100);
  workload::checkpoint_here();
  g_over = true;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}
