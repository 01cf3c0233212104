#include <sys/resource.h>

#include "tests/workloads/workload.h"

WORKLOAD("one of several processes has no address space left that it may use: its brothers are entered at the same time") {
  pid_t children[4];
  for (int i = 0; i < 4; ++i)
    children[i] = workload::fork_child([=] {
      char mark[64] = {};
      workload::fill_pattern(mark, sizeof mark, 7);
      if (i == 2) {
        rlimit limit{};
        MUST(getrlimit(RLIMIT_AS, &limit));
        limit.rlim_cur = 4096;
        MUST(setrlimit(RLIMIT_AS, &limit));
      }
      workload::checkpoint_here();
      CHECK(workload::has_pattern(mark, sizeof mark, 7));
    });
  workload::checkpoint_here();
  for (const pid_t child : children) workload::join(child);
}
