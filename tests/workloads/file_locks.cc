// driver: --option=--file-locks
#include <fcntl.h>
#include <sys/file.h>

#include "tests/workloads/workload.h"

WORKLOAD("locks on files stay with those who hold them") {
  const int mine = MUST(open("data", O_RDWR | O_CREAT, 0644));
  MUST(ftruncate(mine, 100));
  MUST(flock(mine, LOCK_EX));
  const int ranged = MUST(open("ranged", O_RDWR | O_CREAT, 0644));
  MUST(ftruncate(ranged, 100));
  struct flock range{};
  range.l_type = F_WRLCK;
  range.l_start = 10;
  range.l_len = 20;
  MUST(fcntl(ranged, F_SETLK, &range));
  const pid_t child = workload::fork_child([] {
    workload::checkpoint_here();
    const int other = MUST(open("data", O_RDWR));
    CHECK_EQ(flock(other, LOCK_EX | LOCK_NB), -1);
    const int again = MUST(open("ranged", O_RDWR));
    struct flock wanted{};
    wanted.l_type = F_RDLCK;
    wanted.l_start = 25;
    wanted.l_len = 1;
    MUST(fcntl(again, F_GETLK, &wanted));
    CHECK_EQ(wanted.l_type, F_WRLCK);
    CHECK_EQ(wanted.l_start, 10);
    CHECK_EQ(wanted.l_pid, getppid());
  });
  workload::checkpoint_here();
  workload::join(child);
}
