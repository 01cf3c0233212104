// bits: 64 32
#include <sys/wait.h>

#include "tests/workloads/workload.h"

namespace {
// A process at each node of a tree of the given depth; all know their own and their parent's pid.
void node(int depth) {
  pid_t children[2] = {};
  if (depth > 0)
    for (pid_t& child : children) child = workload::fork_child([depth] { node(depth - 1); });
  const pid_t self = getpid(), parent = getppid();
  workload::checkpoint_here();
  CHECK_EQ(getpid(), self);
  CHECK_EQ(getppid(), parent);
  if (depth == 0) return;
  for (pid_t child : children) workload::join(child);
  CHECK_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  CHECK_EQ(errno, ECHILD);
}
}  // namespace

WORKLOAD("a tree of processes keeps all pids and who is whose parent") {
  pid_t children[2];
  for (pid_t& child : children) child = workload::fork_child([] { node(2); });
  const pid_t self = getpid();
  workload::checkpoint_here();
  CHECK_EQ(getpid(), self);
  for (pid_t child : children) workload::join(child);
}
