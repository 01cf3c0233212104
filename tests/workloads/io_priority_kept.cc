#include <linux/ioprio.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

WORKLOAD("the priority for input and output stays") {
  const long wanted = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7);
  MUST(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, wanted));
  workload::checkpoint_here();
  CHECK_EQ(syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0), wanted);
}
