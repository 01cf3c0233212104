#include <linux/membarrier.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

namespace {
// Numbers that older headers lack.
constexpr int kRseq = 1 << 7, kRegisterRseq = 1 << 8;  // MEMBARRIER_CMD_…PRIVATE_EXPEDITED_RSEQ, Linux 5.10
constexpr int kGetRegistrations = 1 << 9;              // MEMBARRIER_CMD_GET_REGISTRATIONS, Linux 6.3

long barrier(int command) { return syscall(SYS_membarrier, command, 0, 0); }
void check(int command, bool allowed) {
  CHECK_EQ(barrier(command), allowed ? 0L : -1L);
  if (!allowed) CHECK_EQ(errno, EPERM);
}
}  // namespace

WORKLOAD("registrations for memory barriers stay, each process its own") {
  if (barrier(MEMBARRIER_CMD_QUERY) < kRegisterRseq) workload::skip("this kernel has no such barriers");
  const pid_t without = workload::fork_child([] {
    workload::checkpoint_here();
    check(MEMBARRIER_CMD_PRIVATE_EXPEDITED, false);
    check(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, false);
    check(kRseq, false);
  });
  const pid_t with_one = workload::fork_child([] {
    MUST(barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE));
    workload::checkpoint_here();
    check(MEMBARRIER_CMD_PRIVATE_EXPEDITED, false);
    check(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, true);
    check(kRseq, false);
  });
  MUST(barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED));
  MUST(barrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED));
  MUST(barrier(kRegisterRseq));
  const long all = barrier(kGetRegistrations);
  workload::checkpoint_here();
  CHECK_EQ(barrier(kGetRegistrations), all);
  check(MEMBARRIER_CMD_PRIVATE_EXPEDITED, true);
  check(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, false);
  check(kRseq, true);
  workload::join(without);
  workload::join(with_one);
}
