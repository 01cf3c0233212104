#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

WORKLOAD("the signal asked for at the parent's death stays asked for") {
  const pid_t child = workload::fork_child([] {
    MUST(prctl(PR_SET_PDEATHSIG, SIGRTMIN + 4));
    workload::checkpoint_here();
    int signal = 0;
    MUST(prctl(PR_GET_PDEATHSIG, &signal));
    CHECK_EQ(signal, SIGRTMIN + 4);
  });
  workload::checkpoint_here();
  workload::join(child);
}
