#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_apart{0};
std::atomic<bool> g_over{false};

void check_directory(const char* end) {
  char path[4096];
  CHECK(std::string_view(getcwd(path, sizeof path) ? path : "").ends_with(end));
}
void take_own() {
  MUST(unshare(CLONE_FS));
  umask(0123);
}
void announce() {
  ++g_apart;
  while (!g_over) usleep(1000);
  CHECK_EQ(umask(0), 0123u);
}

void* in_a_directory(void*) {
  take_own();
  MUST(chdir("first"));
  announce();
  check_directory("/first");
  MUST(chdir(".."));
  return nullptr;
}
void* under_a_root(void*) {
  take_own();
  MUST(chroot("second"));
  MUST(chdir("/inner"));
  announce();
  check_directory("/inner");
  MUST(access("/inner", F_OK));
  return nullptr;
}
void* in_no_directory(void*) {
  take_own();
  MUST(mkdir("third", 0700));
  MUST(chdir("third"));
  MUST(rmdir("../third"));
  announce();
  char path[4096];
  CHECK(getcwd(path, sizeof path) == nullptr);
  CHECK_EQ(errno, ENOENT);
  return nullptr;
}
}  // namespace

WORKLOAD("a thread with directories and a umask of its own keeps them, and the others theirs") {
  MUST(mkdir("first", 0755));
  MUST(mkdir("second", 0755));
  MUST(mkdir("second/inner", 0755));
  umask(0022);
  void* (*const bodies[])(void*) = {in_a_directory, under_a_root, in_no_directory};
  pthread_t threads[3];
  for (int i = 0; i < 3; ++i) CHECK_EQ(pthread_create(&threads[i], nullptr, bodies[i], nullptr), 0);
  while (g_apart < 3) usleep(100);
  workload::checkpoint_here();
  CHECK_EQ(umask(0022), 0022u);
  check_directory(strrchr(workload::directory(), '/'));
  g_over = true;
  for (const pthread_t thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
  check_directory(strrchr(workload::directory(), '/'));
  MUST(access("first", F_OK));
}
