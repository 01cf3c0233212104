#include <sys/resource.h>

#include "tests/workloads/workload.h"

WORKLOAD("resource limits stay, soft and hard") {
  const struct {
    __rlimit_resource_t resource;
    rlimit value;
  } limits[] = {
      {RLIMIT_NOFILE, {100, 200}},        {RLIMIT_CORE, {0, 0}},
      {RLIMIT_STACK, {3 << 20, 7 << 20}}, {RLIMIT_CPU, {1000, 2000}},
      {RLIMIT_FSIZE, {1 << 30, 1 << 30}}, {RLIMIT_MEMLOCK, {64 << 10, 128 << 10}},
      {RLIMIT_MSGQUEUE, {4096, 8192}},    {RLIMIT_SIGPENDING, {100, 200}},
  };
  for (const auto& limit : limits) MUST(setrlimit(limit.resource, &limit.value));
  workload::checkpoint_here();
  for (const auto& limit : limits) {
    rlimit now{};
    MUST(getrlimit(limit.resource, &now));
    CHECK_EQ(now.rlim_cur, limit.value.rlim_cur);
    CHECK_EQ(now.rlim_max, limit.value.rlim_max);
  }
}
