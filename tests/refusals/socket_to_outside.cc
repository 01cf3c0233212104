#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

// Its peer belongs to a process that is no descendant any more, and lives as long as the socket.
WORKLOAD("is connected to a process outside the tree") {
  int pair[2];
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  const pid_t middle = MUST(fork());
  if (middle == 0) {
    if (MUST(fork()) != 0) _exit(0);
    close(pair[0]);
    char byte;
    while (read(pair[1], &byte, 1) > 0) MUST(write(pair[1], &byte, 1));
    _exit(0);
  }
  MUST(waitpid(middle, nullptr, 0));
  close(pair[1]);
  workload::checkpoint_here();
  char byte = 'x';
  MUST(write(pair[0], &byte, 1));
  CHECK_EQ(MUST(read(pair[0], &byte, 1)), 1);
}
