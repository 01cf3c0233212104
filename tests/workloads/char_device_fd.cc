#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "tests/workloads/workload.h"

WORKLOAD("open null, zero, full and urandom devices stay what they are") {
  const struct {
    const char* path;
    int flags;
    unsigned minor;
    int fd = -1;
  } devices[] = {
      {"/dev/null", O_RDWR, 3, MUST(open("/dev/null", O_RDWR))},
      {"/dev/zero", O_RDONLY, 5, MUST(open("/dev/zero", O_RDONLY))},
      {"/dev/full", O_WRONLY, 7, MUST(open("/dev/full", O_WRONLY))},
      {"/dev/urandom", O_RDONLY | O_NONBLOCK, 9, MUST(open("/dev/urandom", O_RDONLY | O_NONBLOCK))},
  };
  workload::checkpoint_here();
  for (const auto& device : devices) {
    struct stat status{};
    MUST(fstat(device.fd, &status));
    CHECK(S_ISCHR(status.st_mode));
    CHECK_EQ(major(status.st_rdev), 1u);
    CHECK_EQ(minor(status.st_rdev), device.minor);
    CHECK_EQ(fcntl(device.fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), device.flags);
  }
  char bytes[16];
  CHECK_EQ(read(devices[0].fd, bytes, sizeof bytes), 0);
  memset(bytes, 'x', sizeof bytes);
  CHECK_EQ(read(devices[1].fd, bytes, sizeof bytes), static_cast<ssize_t>(sizeof bytes));
  for (char byte : bytes) CHECK_EQ(byte, '\0');
  CHECK_EQ(write(devices[2].fd, bytes, 1), -1);
  CHECK_EQ(errno, ENOSPC);
  CHECK_EQ(read(devices[3].fd, bytes, sizeof bytes), static_cast<ssize_t>(sizeof bytes));
}
