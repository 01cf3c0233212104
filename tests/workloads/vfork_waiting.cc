#include <signal.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

namespace {
// The vforked child's pid, 0 while there is none.
pid_t child_of(pid_t parent) {
  char path[64], line[32] = {};
  snprintf(path, sizeof path, "/proc/%d/task/%d/children", parent, parent);
  FILE* children = MUST(fopen(path, "re"));
  const bool any = fgets(line, sizeof line, children) != nullptr;
  fclose(children);
  return any ? atoi(line) : 0;
}

// Not by fork_child: nothing in this process runs before its own child has ended.
[[noreturn]] void vfork_and_wait() {
  static volatile int shared = 0;
  const pid_t pid = vfork();
  if (pid == 0) {
    shared = 42;
    sigset_t go;
    sigemptyset(&go);
    sigaddset(&go, workload::kGo);
    int signal = 0;
    while (sigwait(&go, &signal) != 0) {
    }
    _exit(7);
  }
  CHECK_EQ(static_cast<int>(shared), 42);
  int status = 0;
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  CHECK_EQ(WEXITSTATUS(status), 7);
  _exit(0);
}
}  // namespace

WORKLOAD("a parent that waits for the child of a vfork, which shares its memory, goes on when that ends") {
  const pid_t waiting = MUST(fork());
  if (waiting == 0) vfork_and_wait();
  while (child_of(waiting) == 0) usleep(500);
  workload::checkpoint_here();
  workload::tell_to_go(child_of(waiting));
  workload::wait_for_success(waiting);
}
