// bits: 64 32
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

WORKLOAD("a robust mutex whose owner dies is handed over, as before") {
  struct Shared {
    pthread_mutex_t mutex;
  };
  auto* shared = static_cast<Shared*>(MUST(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)));
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  CHECK_EQ(pthread_mutex_init(&shared->mutex, &attributes), 0);
  const pid_t child = workload::fork_child([=] {
    CHECK_EQ(pthread_mutex_lock(&shared->mutex), 0);
    workload::checkpoint_here();
    // Ends with the lock in its hands; only the kernel, through the list, can tell the others.
  });
  CHECK_EQ(pthread_mutex_trylock(&shared->mutex), EBUSY);
  workload::checkpoint_here();
  CHECK_EQ(pthread_mutex_trylock(&shared->mutex), EBUSY);
  workload::join(child);
  CHECK_EQ(pthread_mutex_lock(&shared->mutex), EOWNERDEAD);
  CHECK_EQ(pthread_mutex_consistent(&shared->mutex), 0);
  CHECK_EQ(pthread_mutex_unlock(&shared->mutex), 0);
}
