#include <sys/eventfd.h>

#include "tests/workloads/workload.h"

WORKLOAD("an eventfd keeps its counter and whether it is a semaphore, also shared between processes") {
  const int plain = MUST(eventfd(7, EFD_CLOEXEC | EFD_NONBLOCK));
  const int semaphore = MUST(eventfd(3, EFD_SEMAPHORE));
  const pid_t child = workload::fork_child([=] {
    workload::checkpoint_here();
    const uint64_t more = 10;
    MUST(write(plain, &more, sizeof more));
  });
  workload::checkpoint_here();
  workload::join(child);
  uint64_t value = 0;
  MUST(read(plain, &value, sizeof value));
  CHECK_EQ(value, 17u);
  CHECK_EQ(read(plain, &value, sizeof value), -1);
  CHECK_EQ(errno, EAGAIN);
  MUST(read(semaphore, &value, sizeof value));
  CHECK_EQ(value, 1u);
}
