#include <sys/personality.h>

#include "tests/workloads/workload.h"

WORKLOAD("the personality stays") {
  MUST(personality(ADDR_NO_RANDOMIZE | UNAME26));
  workload::checkpoint_here();
  CHECK_EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE | UNAME26);
}
