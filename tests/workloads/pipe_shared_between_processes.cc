#include <fcntl.h>

#include "tests/workloads/workload.h"

WORKLOAD("a pipe between processes goes on, and one process that closes its end ends the stream") {
  int to_child[2], to_parent[2];
  MUST(pipe(to_child));
  MUST(pipe(to_parent));
  MUST(write(to_child[1], "early ", 6));
  const pid_t child = workload::fork_child([&] {
    MUST(close(to_child[1]));
    MUST(close(to_parent[0]));
    MUST(dup3(to_child[0], 77, O_CLOEXEC));  // the same end under two numbers
    MUST(close(to_child[0]));
    workload::checkpoint_here();
    char buffer[64];
    size_t length = 0;
    ssize_t got;
    while ((got = MUST(read(77, buffer + length, sizeof buffer - length))) > 0) length += static_cast<size_t>(got);
    CHECK_EQ(MUST(write(to_parent[1], buffer, length)), static_cast<ssize_t>(length));
  });
  MUST(close(to_child[0]));
  MUST(close(to_parent[1]));
  workload::checkpoint_here();
  workload::tell_to_go(child);
  MUST(write(to_child[1], "and late", 8));
  MUST(close(to_child[1]));
  char answer[64] = {};
  size_t length = 0;
  ssize_t got;
  while ((got = MUST(read(to_parent[0], answer + length, sizeof answer - 1 - length))) > 0) length += static_cast<size_t>(got);
  CHECK_EQ(answer, "early and late");
  workload::wait_for_success(child);
}
