#include <fcntl.h>
#include <sys/file.h>

#include "tests/workloads/workload.h"

WORKLOAD("holds a lock on a file") {
  const int file = MUST(open("data", O_RDWR | O_CREAT, 0644));
  MUST(flock(file, LOCK_EX));
  workload::checkpoint_here();
  const int other = MUST(open("data", O_RDWR));
  CHECK_EQ(flock(other, LOCK_EX | LOCK_NB), -1);
}
