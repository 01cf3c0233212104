// bits: 64 32
#include <sys/wait.h>

#include "tests/workloads/clone.h"

namespace {

// One for all: these are no threads, but they have the same memory.
int ready[3];
int counter = 1000;
char* volatile mapped = nullptr;
volatile sig_atomic_t handled = 0;

int maps_memory(void*) {
  workload::set(&ready[0]);
  workload::wait_for_go_signal();
  counter += 1;
  mapped = static_cast<char*>(MUST(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  mapped[5000] = 'x';
  return 0;
}

int sets_handler(void*) {
  workload::set(&ready[1]);
  workload::wait_for_go_signal();
  counter += 10;
  struct sigaction action{};
  action.sa_handler = [](int) { handled = 1; };
  MUST(sigaction(SIGUSR1, &action, nullptr));
  return 0;
}

// Of a child that has memory of its own again.
int in_a_copy(void*) {
  workload::set(&ready[2]);
  workload::wait_for_go_signal();
  counter += 100;
  return 0;
}

int forks(void*) {
  counter = 5;
  const pid_t child = workload::clone_child(in_a_copy, CLONE_VM | CLONE_FILES | SIGCHLD);
  workload::wait_until(&ready[2]);
  workload::checkpoint_here();
  workload::tell_to_go(child);
  workload::wait_for_success(child);
  CHECK_EQ(counter, 105);
  return 0;
}

}  // namespace

WORKLOAD("processes that share one address space, and signal handlers too, still do") {
  const pid_t one = workload::clone_child(maps_memory, CLONE_VM | SIGCHLD);
  const pid_t two = workload::clone_child(sets_handler, CLONE_VM | CLONE_SIGHAND | SIGCHLD);
  workload::wait_until(&ready[0]);
  workload::wait_until(&ready[1]);
  const pid_t three = workload::fork_child([] { (void)forks(nullptr); });
  workload::checkpoint_here();
  workload::tell_to_go(one);
  workload::wait_for_success(one);
  workload::tell_to_go(two);
  workload::wait_for_success(two);
  CHECK_EQ(counter, 1011);
  CHECK_EQ(mapped[5000], 'x');
  MUST(raise(SIGUSR1));
  CHECK_EQ(static_cast<int>(handled), 1);
  workload::join(three);
}
