#include <sys/prctl.h>

#include "tests/workloads/workload.h"

WORKLOAD("a process that opted out of huge pages stays so") {
  MUST(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
  workload::checkpoint_here();
  CHECK_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
}
