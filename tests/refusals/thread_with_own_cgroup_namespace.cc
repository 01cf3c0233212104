#include <sched.h>
#include <unistd.h>

#include "tests/refusals/thread_apart.h"

namespace {
// Of the calling thread.
void namespace_name(char (&name)[64]) {
  const ssize_t length = MUST(readlink("/proc/thread-self/ns/cgroup", name, sizeof name - 1));
  name[length] = 0;
}
char g_own[64];
}  // namespace

WORKLOAD("has a thread with a namespace of cgroups of its own") {
  refusals::checkpoint_beside(
      [] {
        MUST(unshare(CLONE_NEWCGROUP));
        namespace_name(g_own);
      },
      [] {
        char name[64];
        namespace_name(name);
        CHECK_EQ(name, static_cast<const char*>(g_own));
      });
}
