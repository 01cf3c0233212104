#include <fcntl.h>
#include <signal.h>

#include "tests/workloads/workload.h"

WORKLOAD("has a lease on a file of a tmpfs of its own, which a checkpoint would have to read") {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGIO);
  MUST(sigprocmask(SIG_BLOCK, &set, nullptr));
  const int file = MUST(open("/tmp/leased", O_RDWR | O_CREAT, 0644));
  if (fcntl(file, F_SETLEASE, F_WRLCK) < 0) workload::skip("a tmpfs of this kernel has no leases");
  workload::checkpoint_here();
  CHECK_EQ(MUST(fcntl(file, F_GETLEASE)), F_WRLCK);
  const timespec now{};
  CHECK_EQ(sigtimedwait(&set, nullptr, &now), -1);  // nobody tried to open it
}
