#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "tests/workloads/workload.h"

static int option(int fd, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  MUST(getsockopt(fd, SOL_SOCKET, name, &value, &size));
  return value;
}

WORKLOAD("options of a socket stay: buffers, timeouts, flags, who gets its signals; its ends are in two processes") {
  int pair[2];
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  const int bytes = 20000, mark = 5;
  MUST(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes));
  MUST(setsockopt(pair[0], SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes));
  MUST(setsockopt(pair[0], SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof mark));
  const timeval timeout{3, 500000};
  MUST(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
  MUST(fcntl(pair[0], F_SETOWN, getpid()));
  MUST(fcntl(pair[0], F_SETSIG, SIGUSR1));
  MUST(fcntl(pair[0], F_SETFL, O_NONBLOCK));
  const pid_t child = workload::fork_child([&] {
    close(pair[0]);
    MUST(write(pair[1], "sent before", 11));
    workload::checkpoint_here();
    MUST(write(pair[1], " and after", 10));
  });
  close(pair[1]);
  workload::checkpoint_here();
  CHECK_EQ(option(pair[0], SO_SNDBUF), 40000);
  CHECK_EQ(option(pair[0], SO_RCVBUF), 40000);
  CHECK_EQ(option(pair[0], SO_RCVLOWAT), 5);
  timeval now{};
  socklen_t size = sizeof now;
  MUST(getsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &now, &size));
  CHECK_EQ(now.tv_sec, 3);
  CHECK_EQ(MUST(fcntl(pair[0], F_GETOWN)), getpid());
  CHECK_EQ(MUST(fcntl(pair[0], F_GETSIG)), SIGUSR1);
  CHECK_EQ(MUST(fcntl(pair[0], F_GETFL)) & O_NONBLOCK, O_NONBLOCK);
  workload::join(child);
  char got[32] = {};
  CHECK_EQ(MUST(read(pair[0], got, sizeof got)), 21);
  CHECK_EQ(std::string_view(got), "sent before and after");
  CHECK_EQ(MUST(read(pair[0], got, sizeof got)), 0);
}
