#include <sys/stat.h>

#include "tests/workloads/clone.h"

namespace {

int* ready;

int changes_directory(void*) {
  workload::set(ready);
  workload::wait_for_go_signal();
  MUST(chdir("deeper"));
  umask(0135);
  return 0;
}

}  // namespace

WORKLOAD("a working directory and umask that two processes share stay shared") {
  ready = workload::shared_object<int>();
  MUST(mkdir("below", 0700));
  MUST(mkdir("below/deeper", 0700));
  MUST(chdir("below"));
  umask(027);
  const pid_t child = workload::clone_child(changes_directory, CLONE_FS | SIGCHLD);
  workload::wait_until(ready);
  workload::checkpoint_here();
  workload::tell_to_go(child);
  workload::wait_for_success(child);
  char here[4096];
  CHECK(getcwd(here, sizeof here) != nullptr);
  CHECK_EQ(strrchr(here, '/'), "/deeper");
  CHECK_EQ(umask(0), 0135u);
}
