#include <sys/timerfd.h>

#include "tests/workloads/workload.h"

WORKLOAD("a timerfd keeps its clock, the time left, its interval and the ticks not yet read") {
  const int ticking = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  const itimerspec soon{{0, 5'000'000}, {0, 5'000'000}}, far{{0, 0}, {1000, 0}};
  MUST(timerfd_settime(ticking, 0, &soon, nullptr));
  const int waiting = MUST(timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK));
  MUST(timerfd_settime(waiting, 0, &far, nullptr));
  // So fast that it expires between any two questions about it.
  const int racing = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
  const itimerspec at_once{{0, 1'000}, {0, 1'000}};
  MUST(timerfd_settime(racing, 0, &at_once, nullptr));
  usleep(20'000);
  workload::checkpoint_here();
  uint64_t ticks = 0;
  MUST(read(ticking, &ticks, sizeof ticks));
  CHECK(ticks >= 3);
  MUST(read(ticking, &ticks, sizeof ticks));
  CHECK(ticks >= 1);
  for (int i = 0; i < 2; ++i) {
    MUST(read(racing, &ticks, sizeof ticks));
    CHECK(ticks >= 1);
  }
  itimerspec left{};
  MUST(timerfd_gettime(waiting, &left));
  CHECK(left.it_value.tv_sec > 980 && left.it_value.tv_sec < 1000);
  CHECK_EQ(read(waiting, &ticks, sizeof ticks), -1);
  CHECK_EQ(errno, EAGAIN);
}
