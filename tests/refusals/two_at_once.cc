#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

namespace {
long ring() {
  io_uring_params parameters{};
  const long fd = syscall(SYS_io_uring_setup, 8, &parameters);
  if (fd < 0) workload::skip("this kernel has no io_uring");
  return fd;
}
}  // namespace

WORKLOAD("holds an unsupported descriptor in each of two processes") {
  const pid_t child = workload::fork_child([] {
    const long number = ring();
    MUST(dup2(static_cast<int>(number), 55));
    MUST(close(static_cast<int>(number)));
    workload::checkpoint_here();
  });
  const long number = ring();
  MUST(dup2(static_cast<int>(number), 66));
  MUST(close(static_cast<int>(number)));
  workload::checkpoint_here();
  workload::join(child);
}
