#include <linux/io_uring.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

WORKLOAD("holds an io_uring") {
  io_uring_params parameters{};
  if (syscall(SYS_io_uring_setup, 8, &parameters) < 0) workload::skip("this kernel has no io_uring");
  workload::checkpoint_here();
}
