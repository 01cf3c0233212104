#include <fcntl.h>

#include "tests/workloads/workload.h"

WORKLOAD("hundreds of descriptors stay, each with its own offset") {
  constexpr int kCount = 700;
  const int first = MUST(open("data", O_RDWR | O_CREAT | O_TRUNC, 0644));
  MUST(ftruncate(first, kCount));
  int fds[kCount];
  for (int i = 0; i < kCount; ++i) {
    fds[i] = MUST(open("data", i % 3 == 0 ? O_RDONLY : O_RDWR));
    MUST(lseek(fds[i], i, SEEK_SET));
  }
  workload::checkpoint_here();
  for (int i = 0; i < kCount; ++i) {
    CHECK_EQ(lseek(fds[i], 0, SEEK_CUR), i);
    CHECK_EQ(fcntl(fds[i], F_GETFL) & O_ACCMODE, i % 3 == 0 ? O_RDONLY : O_RDWR);
  }
}
