#include <sys/epoll.h>

#include "tests/workloads/workload.h"

WORKLOAD("an epoll keeps what it watches, with events, data and modes") {
  int one[2], two[2];
  MUST(pipe(one));
  MUST(pipe(two));
  const int epoll = MUST(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{.events = EPOLLIN, .data = {.u64 = 0x1122334455667788}};
  MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, one[0], &event));
  event = {.events = EPOLLIN | EPOLLONESHOT, .data = {.u64 = 2}};
  MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, two[0], &event));
  MUST(write(one[1], "x", 1));
  workload::checkpoint_here();
  epoll_event ready[4];
  CHECK_EQ(MUST(epoll_wait(epoll, ready, 4, 0)), 1);
  CHECK_EQ(ready[0].data.u64, 0x1122334455667788u);
  MUST(write(two[1], "y", 1));
  CHECK_EQ(MUST(epoll_wait(epoll, ready, 4, 0)), 2);
  CHECK_EQ(MUST(epoll_wait(epoll, ready, 4, 0)), 1);  // the second was for one time only
}
