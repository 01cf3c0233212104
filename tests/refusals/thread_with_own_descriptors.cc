#include <fcntl.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<bool> g_apart{false}, g_over{false};

void* body(void*) {
  MUST(unshare(CLONE_FILES));
  const int descriptor = MUST(open("/dev/null", O_RDWR));
  g_apart = true;
  while (!g_over) usleep(1000);
  MUST(write(descriptor, "x", 1));
  return nullptr;
}
}  // namespace

WORKLOAD("has a thread with descriptors of its own") {
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  while (!g_apart) usleep(100);
  workload::checkpoint_here();
  g_over = true;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}
