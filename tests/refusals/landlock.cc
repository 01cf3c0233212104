#include <sys/prctl.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

WORKLOAD("has restricted itself with Landlock") {
  const uint64_t handled = 1;  // LANDLOCK_ACCESS_FS_EXECUTE
  const long ruleset = syscall(SYS_landlock_create_ruleset, &handled, sizeof handled, 0);
  if (ruleset < 0) workload::skip("this kernel has no Landlock");
  MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  CHECK_EQ(syscall(SYS_landlock_restrict_self, static_cast<int>(ruleset), 0), 0L);
  close(static_cast<int>(ruleset));
  workload::checkpoint_here();
}
