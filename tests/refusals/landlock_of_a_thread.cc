#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/refusals/thread_apart.h"

WORKLOAD("has a thread that has restricted itself with Landlock, while its main thread has not") {
  if (syscall(SYS_landlock_create_ruleset, nullptr, 0, 1) < 0) workload::skip("this kernel has no Landlock");
  refusals::checkpoint_beside([] {
    const uint64_t handled = 1;  // LANDLOCK_ACCESS_FS_EXECUTE
    const long ruleset = MUST(syscall(SYS_landlock_create_ruleset, &handled, sizeof handled, 0));
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    CHECK_EQ(syscall(SYS_landlock_restrict_self, static_cast<int>(ruleset), 0), 0L);
    close(static_cast<int>(ruleset));
  });
}
