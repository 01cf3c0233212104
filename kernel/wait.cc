#include "kernel/wait.h"

#include <poll.h>

#include "kernel/call.h"

namespace dormouse::sys {

Result<bool> wait_for(int fd, short events, const Deadline& deadline) {
  ::pollfd entry{fd, events, 0};
  for (;;) {
    const int ready = ::poll(&entry, 1, deadline.remaining_ms());
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return failed("poll");
  }
}

}  // namespace dormouse::sys
