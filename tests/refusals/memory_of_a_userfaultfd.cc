#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

WORKLOAD("has memory whose faults somebody else handles") {
  const int fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  if (fd < 0) workload::skip("this kernel has no userfaultfd");
  uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
  MUST(ioctl(fd, UFFDIO_API, &api));
  void* memory = MUST(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  uffdio_register range{};
  range.range = {reinterpret_cast<unsigned long>(memory), 4096};
  range.mode = UFFDIO_REGISTER_MODE_MISSING;
  MUST(ioctl(fd, UFFDIO_REGISTER, &range));
  workload::checkpoint_here();
}
