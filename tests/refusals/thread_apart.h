// A process whose second thread has something of its own.
#pragma once

#include <pthread.h>
#include <unistd.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace refusals {

// The second thread runs part() while the first waits, and checks() when the checkpoint is over.
inline void checkpoint_beside(void (*part)(), void (*check)() = [] {}) {
  struct Thread {
    void (*part)();
    void (*check)();
    std::atomic<bool> apart{false}, over{false};
  } shared{part, check};
  pthread_t thread;
  const auto body = [](void* argument) -> void* {
    auto& own = *static_cast<Thread*>(argument);
    own.part();
    own.apart = true;
    while (!own.over) usleep(1000);
    own.check();
    return nullptr;
  };
  CHECK_EQ(pthread_create(&thread, nullptr, body, &shared), 0);
  while (!shared.apart) usleep(100);
  workload::checkpoint_here();
  shared.over = true;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}

}  // namespace refusals
