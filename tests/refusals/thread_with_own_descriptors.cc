#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include "tests/refusals/thread_apart.h"

namespace {
int g_descriptor = -1;
}

WORKLOAD("has a thread with descriptors of its own") {
  refusals::checkpoint_beside(
      [] {
        MUST(unshare(CLONE_FILES));
        g_descriptor = MUST(open("/dev/null", O_RDWR));
      },
      [] { MUST(write(g_descriptor, "x", 1)); });
}
