#include <linux/keyctl.h>
#include <pthread.h>
#include <sys/syscall.h>

#include <atomic>

#include "tests/workloads/workload.h"

static std::atomic<int> g_stage{0};

static void* with_a_key(void*) {
  MUST(syscall(SYS_add_key, "user", "dormouse:thread", "y", 1, KEY_SPEC_THREAD_KEYRING));
  g_stage = 1;
  while (g_stage == 1) usleep(1000);
  CHECK(syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_THREAD_KEYRING, "user", "dormouse:thread", 0) > 0);
  return nullptr;
}

WORKLOAD("holds keys in the keyring of its process, and in that of a thread") {
  const long key = syscall(SYS_add_key, "user", "dormouse:process", "x", 1, KEY_SPEC_PROCESS_KEYRING);
  if (key < 0) workload::skip("no keys can be made here");
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, with_a_key, nullptr), 0);
  while (g_stage == 0) usleep(100);
  workload::checkpoint_here();
  CHECK_EQ(syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_PROCESS_KEYRING, "user", "dormouse:process", 0), key);
  g_stage = 2;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}
