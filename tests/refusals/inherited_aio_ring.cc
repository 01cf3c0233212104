#include <linux/aio_abi.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

WORKLOAD("has a child with a mapping of its parent's aio ring, but not the context") {
  aio_context_t context = 0;
  MUST(syscall(SYS_io_setup, 4, &context));
  const pid_t child = workload::fork_child([] { workload::checkpoint_here(); });
  workload::checkpoint_here();
  workload::join(child);
}
