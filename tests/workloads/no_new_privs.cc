#include <sys/prctl.h>

#include "tests/workloads/workload.h"

WORKLOAD("no_new_privs stays where it was set, and only there") {
  const pid_t child = workload::fork_child([] {
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    workload::checkpoint_here();
    CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
  });
  workload::checkpoint_here();
  CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
  workload::join(child);
}
