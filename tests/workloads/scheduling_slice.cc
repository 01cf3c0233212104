#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

namespace {
struct Attributes {  // struct sched_attr
  uint32_t size = 48, policy = SCHED_OTHER;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0, deadline = 0, period = 0;
};
Attributes attributes() {
  Attributes now;
  CHECK_EQ(syscall(SYS_sched_getattr, 0, &now, sizeof now, 0), 0L);
  return now;
}
void set(uint32_t policy, uint64_t slice) {
  Attributes wanted;
  wanted.policy = policy;
  wanted.flags = 1;  // SCHED_FLAG_RESET_ON_FORK
  wanted.nice = 3;
  wanted.runtime = slice;
  CHECK_EQ(syscall(SYS_sched_setattr, 0, &wanted, 0), 0L);
}
void check(uint32_t policy, uint64_t slice) {
  CHECK_EQ(attributes().runtime, slice);
  CHECK_EQ(attributes().policy, policy);
  CHECK_EQ(attributes().flags & 1, 1u);
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), 3);
}
}  // namespace

WORKLOAD("a thread that asked for a time slice of its own still has it") {
  const uint64_t usual = attributes().runtime;
  const pid_t child = workload::fork_child([usual] {
    set(SCHED_BATCH, 20'000'000);
    workload::checkpoint_here();
    check(SCHED_BATCH, 20'000'000);
  });
  const pid_t usual_child = workload::fork_child([usual] {
    workload::checkpoint_here();
    CHECK_EQ(attributes().runtime, usual);
  });
  set(SCHED_OTHER, 7'000'000);
  if (attributes().runtime != 7'000'000) workload::skip("this kernel has no slices to ask for");
  workload::checkpoint_here();
  check(SCHED_OTHER, 7'000'000);
  workload::join(child);
  workload::join(usual_child);
}
