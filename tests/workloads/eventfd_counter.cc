#include <fcntl.h>
#include <sys/eventfd.h>

#include "tests/workloads/workload.h"

WORKLOAD("an eventfd keeps its counter and whether it is a semaphore, also shared between processes") {
  const int plain = MUST(eventfd(7, EFD_CLOEXEC | EFD_NONBLOCK));
  const int semaphore = MUST(eventfd(3, EFD_SEMAPHORE));
  char path[40], told[256] = {};
  snprintf(path, sizeof path, "/proc/self/fdinfo/%d", semaphore);
  const int info = MUST(open(path, O_RDONLY));
  MUST(read(info, told, sizeof told - 1));
  close(info);
  if (!strstr(told, "eventfd-semaphore")) workload::skip("this kernel does not tell whether an eventfd is a semaphore (Linux 6.5)");
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
