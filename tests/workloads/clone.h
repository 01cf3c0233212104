// Children of clone() with flags that fork() has not: the kit's own children tell that they are ready over a pipe, which
// does not do where descriptors are shared.
#pragma once

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

namespace workload {

inline void wait_for_go_signal() {
  sigset_t go;
  sigemptyset(&go);
  sigaddset(&go, kGo);
  int signal = 0;
  while (sigwait(&go, &signal) != 0 || signal != kGo) {
  }
}

// Memory that all processes of the workload see.
template <class T>
T* shared_object() {
  return static_cast<T*>(MUST(mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)));
}

inline void wait_until(const int* flag) {
  while (__atomic_load_n(flag, __ATOMIC_ACQUIRE) == 0) usleep(500);
}
inline void set(int* flag, int value = 1) { __atomic_store_n(flag, value, __ATOMIC_RELEASE); }

// `flags`: CLONE_* and the exit signal. The child runs `body`, which says by `set` when it is ready, and ends.
inline pid_t clone_child(int (*body)(void*), unsigned long flags, void* argument = nullptr) {
  constexpr size_t kStack = 256 << 10;
  char* stack = static_cast<char*>(MUST(mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  return MUST(clone(body, stack + kStack, static_cast<int>(flags), argument));
}

}  // namespace workload
