// bits: 64 32
#include <sched.h>
#include <sys/rseq.h>

#include "tests/workloads/workload.h"

WORKLOAD("the area for restartable sequences is still registered: the kernel keeps its cpu number true") {
  if (__rseq_size == 0) workload::skip("libc did not register rseq");
  auto* area = reinterpret_cast<volatile struct rseq*>(static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
  CHECK_EQ(static_cast<int>(area->cpu_id), sched_getcpu());
  workload::checkpoint_here();
  // Move to each allowed cpu: the field follows only if the kernel knows the area.
  cpu_set_t allowed;
  MUST(sched_getaffinity(0, sizeof allowed, &allowed));
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    area->cpu_id = 0xffff;  // what only the kernel puts right
    MUST(sched_setaffinity(0, sizeof one, &one));
    sched_yield();
    usleep(1000);
    CHECK_EQ(static_cast<int>(area->cpu_id), cpu);
  }
}
