// flavours: host
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

namespace {

// Not in the tree that is dumped: its parent is gone. Ends with the task that it moves.
[[noreturn]] void move_about(pid_t pid, const cpu_set_t& all) {
  MUST(setsid());
  close_range(0, ~0u, 0);
  for (int cpu = 0;; cpu = (cpu + 1) % CPU_SETSIZE) {
    if (!CPU_ISSET(cpu, &all)) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(pid, sizeof one, &one) != 0) _exit(0);
    usleep(20);
  }
}

}  // namespace

WORKLOAD("memory is saved whole while others move its task from one processor to the other") {
  // The C library registers its rseq area, where the kernel notes each move.
  cpu_set_t all;
  MUST(sched_getaffinity(0, sizeof all, &all));
  if (CPU_COUNT(&all) < 2) workload::skip("there is one processor only");
  constexpr size_t kBytes = 32 << 20;
  void* memory = MUST(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  workload::fill_pattern(memory, kBytes, 1);
  const pid_t self = getpid();
  const pid_t between = MUST(fork());
  if (between == 0) {
    for (int movers = 0; movers < 3; ++movers)
      if (MUST(fork()) == 0) move_about(self, all);
    _exit(0);
  }
  int status = 0;
  CHECK_EQ(waitpid(between, &status, 0), between);
  CHECK_EQ(status, 0);
  workload::checkpoint_here();
  CHECK(workload::has_pattern(memory, kBytes, 1));
}
