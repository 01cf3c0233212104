#include <sched.h>
#include <unistd.h>

#include "tests/refusals/thread_apart.h"

WORKLOAD("has a thread with a namespace of its own") {
  refusals::checkpoint_beside(
      [] {
        MUST(unshare(CLONE_NEWUTS));
        MUST(sethostname("another", 7));
      },
      [] {
        char name[64];
        MUST(gethostname(name, sizeof name));
        CHECK_EQ(name, "another");
      });
}
