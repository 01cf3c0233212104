// bits: 64 32
#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/workloads/clone.h"

namespace {

int* ready;
int counter = -1;
thread_local int own = 1;

char state_of_leader() {
  char text[256] = {};
  FILE* stat = MUST(fopen("/proc/self/stat", "re"));
  CHECK(fgets(text, sizeof text, stat) != nullptr);
  fclose(stat);
  return strrchr(text, ')')[2];
}

void* outlives(void*) {
  own = 7;
  while (state_of_leader() != 'Z') usleep(500);
  workload::set(ready);
  workload::wait_for_go_signal();
  CHECK_EQ(own, 7);
  CHECK_EQ(state_of_leader(), 'Z');
  uint64_t value = 0;
  MUST(read(counter, &value, sizeof value));
  CHECK_EQ(value, 12u);
  _exit(0);
}

}  // namespace

WORKLOAD("a process whose main thread has ended lives on in its other threads") {
  ready = workload::shared_object<int>();
  const pid_t child = MUST(fork());
  if (child == 0) {
    counter = MUST(eventfd(12, 0));
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, nullptr, outlives, nullptr), 0);
    syscall(SYS_exit, 5);
  }
  workload::wait_until(ready);
  workload::checkpoint_here();
  workload::join(child);
}
