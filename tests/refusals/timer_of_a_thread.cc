#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/workloads/workload.h"

// With two threads it is not known whose time it counts.
WORKLOAD("holds a timer of one thread's CPU time that signals the process") {
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, [](void*) -> void* { for (;;) pause(); }, nullptr), 0);
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGRTMIN;
  int id = -1;
  CHECK_EQ(syscall(SYS_timer_create, CLOCK_THREAD_CPUTIME_ID, &event, &id), 0L);
  workload::checkpoint_here();
}
