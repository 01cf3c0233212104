#include <fcntl.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

namespace {
int open_again(int fd, int flags) {
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return MUST(open(path, flags));
}
}  // namespace

WORKLOAD("a memfd that was opened again, for reading, for writing, as a path, is one, in two processes") {
  const int first = MUST(memfd_create("shared", MFD_ALLOW_SEALING));
  char text[] = "0123456789";
  MUST(write(first, text, 10));
  const int reader = open_again(first, O_RDONLY), writer = open_again(first, O_WRONLY | O_APPEND), path = open_again(first, O_PATH);
  const int same = MUST(dup(first));
  MUST(lseek(reader, 3, SEEK_SET));
  const pid_t child = workload::fork_child([=] {
    MUST(close(first));
    MUST(close(same));
    workload::checkpoint_here();
    MUST(write(writer, "x", 1));
    char byte;
    CHECK(pread(reader, &byte, 1, 10) == 1 && byte == 'x');
    CHECK_EQ(lseek(reader, 0, SEEK_CUR), 3);
    MUST(lseek(reader, 5, SEEK_SET));
  });
  workload::checkpoint_here();
  CHECK_EQ(lseek(first, 0, SEEK_CUR), 10);
  CHECK_EQ(fcntl(reader, F_GETFL) & O_ACCMODE, O_RDONLY);
  CHECK_EQ(fcntl(writer, F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
  CHECK(fcntl(path, F_GETFL) & O_PATH);
  workload::join(child);
  CHECK_EQ(lseek(first, 0, SEEK_END), 11);
  CHECK_EQ(lseek(same, 0, SEEK_CUR), 11);
  CHECK_EQ(lseek(reader, 0, SEEK_CUR), 5);
  MUST(close(open_again(path, O_RDONLY)));
}
