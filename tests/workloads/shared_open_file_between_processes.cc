#include <fcntl.h>

#include "tests/workloads/workload.h"

WORKLOAD("descriptors made by fork and dup share one offset; a second open of the same file does not") {
  const int file = MUST(open("data", O_RDWR | O_CREAT | O_TRUNC, 0644));
  MUST(write(file, "0123456789", 10));
  MUST(lseek(file, 0, SEEK_SET));
  const int twin = MUST(dup(file));
  const int other = MUST(open("data", O_RDWR));
  const pid_t child = workload::fork_child([=] {
    MUST(dup2(file, 90));
    MUST(close(file));
    MUST(close(other));
    workload::checkpoint_here();
    MUST(lseek(90, 6, SEEK_SET));
    MUST(fcntl(90, F_SETFL, O_APPEND));
  });
  workload::checkpoint_here();
  workload::join(child);
  CHECK_EQ(MUST(lseek(file, 0, SEEK_CUR)), 6);
  CHECK_EQ(MUST(lseek(twin, 0, SEEK_CUR)), 6);
  CHECK_EQ(MUST(lseek(other, 0, SEEK_CUR)), 0);
  CHECK_EQ(fcntl(twin, F_GETFL) & O_APPEND, O_APPEND);
  CHECK_EQ(fcntl(other, F_GETFL) & O_APPEND, 0);
}
