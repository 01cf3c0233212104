#include <sys/resource.h>

#include "tests/workloads/workload.h"

WORKLOAD("has no address space left that it may use (RLIMIT_AS)") {
  rlimit limit{};
  MUST(getrlimit(RLIMIT_AS, &limit));
  limit.rlim_cur = 4096;
  MUST(setrlimit(RLIMIT_AS, &limit));
  workload::checkpoint_here();
  rlimit now{};
  MUST(getrlimit(RLIMIT_AS, &now));
  CHECK_EQ(now.rlim_cur, limit.rlim_cur);
}
