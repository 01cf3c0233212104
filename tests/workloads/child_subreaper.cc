#include <sys/prctl.h>

#include "tests/workloads/workload.h"

WORKLOAD("a process that adopts orphans goes on to do so, and keeps those it has") {
  MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
  const pid_t middle = workload::fork_child([] {
    const pid_t orphan = workload::fork_child([] {
      workload::checkpoint_here();
      CHECK(getppid() > 0);
    });
    FILE* note = MUST(fopen("orphan", "we"));
    fprintf(note, "%d\n", orphan);
    fclose(note);
    // Ends without waiting for its child.
  });
  workload::wait_for_success(middle);
  int orphan = 0;
  FILE* note = MUST(fopen("orphan", "re"));
  CHECK_EQ(fscanf(note, "%d", &orphan), 1);
  fclose(note);
  workload::checkpoint_here();
  int subreaper = 0;
  MUST(prctl(PR_GET_CHILD_SUBREAPER, &subreaper));
  CHECK_EQ(subreaper, 1);
  workload::join(orphan);
}
