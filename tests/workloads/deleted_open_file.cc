#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/workloads/workload.h"

WORKLOAD("a file that is open or mapped but has no name any more keeps its content and stays nameless") {
  const int fd = MUST(open("ghost", O_RDWR | O_CREAT | O_TRUNC, 0640));
  char data[10'000];
  workload::fill_pattern(data, sizeof data, 1);
  MUST(write(fd, data, sizeof data));
  const pid_t child = workload::fork_child([fd] {
    workload::checkpoint_here();
    MUST(pwrite(fd, "child", 5, 100));
  });
  auto* mapped = static_cast<char*>(MUST(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0)));
  MUST(unlink("ghost"));
  workload::checkpoint_here();
  CHECK_EQ(access("ghost", F_OK), -1);
  struct stat status{};
  MUST(fstat(fd, &status));
  CHECK_EQ(status.st_nlink, 0u);
  CHECK_EQ(status.st_mode & 0777, 0640u);
  CHECK_EQ(MUST(lseek(fd, 0, SEEK_CUR)), static_cast<off_t>(sizeof data));
  char now[sizeof data];
  CHECK_EQ(MUST(pread(fd, now, sizeof now, 0)), static_cast<ssize_t>(sizeof now));
  CHECK(memcmp(now, data, sizeof data) == 0);
  workload::join(child);
  CHECK(memcmp(mapped + 100, "child", 5) == 0);
}
