#include <sys/syscall.h>

#include "tests/workloads/workload.h"

namespace {
constexpr int kOfProcess = 1;                 // IOPRIO_WHO_PROCESS; linux/ioprio.h is not C++ everywhere
constexpr long kBestEffort7 = 2 << 13 | 7;    // IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7)
}  // namespace

WORKLOAD("the priority for input and output stays") {
  MUST(syscall(SYS_ioprio_set, kOfProcess, 0, kBestEffort7));
  workload::checkpoint_here();
  CHECK_EQ(syscall(SYS_ioprio_get, kOfProcess, 0), kBestEffort7);
}
