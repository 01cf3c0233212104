#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

WORKLOAD("holds a userfaultfd") {
  const long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) workload::skip("this kernel has no userfaultfd");
  uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
  MUST(ioctl(static_cast<int>(fd), UFFDIO_API, &api));
  workload::checkpoint_here();
}
