#include <pthread.h>
#include <sys/prctl.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_stage{0};
void* body(void*) {
  MUST(prctl(PR_SET_NAME, "a (strange) one"));
  g_stage = 1;
  while (g_stage == 1) usleep(1000);
  char name[16];
  MUST(prctl(PR_GET_NAME, name));
  CHECK_EQ(name, "a (strange) one");
  return nullptr;
}
}  // namespace

WORKLOAD("each thread keeps its name") {
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  while (g_stage == 0) usleep(100);
  MUST(prctl(PR_SET_NAME, "main \\ thread"));
  workload::checkpoint_here();
  char name[16];
  MUST(prctl(PR_GET_NAME, name));
  CHECK_EQ(name, "main \\ thread");
  g_stage = 2;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}
