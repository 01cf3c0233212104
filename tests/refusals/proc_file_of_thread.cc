#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

namespace {
void* body(void* fd) {
  *static_cast<int*>(fd) = MUST(open("/proc/thread-self/stat", O_RDONLY));
  return nullptr;
}
}  // namespace

WORKLOAD("has a file of /proc open that belongs to a thread that has ended") {
  int fd = -1;
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, &fd), 0);
  CHECK_EQ(pthread_join(thread, nullptr), 0);
  workload::checkpoint_here();
  CHECK_EQ(fd, 3);
}
