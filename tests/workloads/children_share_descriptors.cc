#include <fcntl.h>
#include <sys/mman.h>

#include "tests/workloads/clone.h"

namespace {

constexpr int kChildren = 12, kFirst = 100;
constexpr size_t kBytes = 600'000;

struct Shared {
  int ready[kChildren];
  int number[kChildren];
};
Shared* shared;

// Its memory is its own, with many pages and a mapped file; the descriptors are everybody's.
int child(void* argument) {
  const auto which = static_cast<int>(reinterpret_cast<intptr_t>(argument));
  char* own = static_cast<char*>(MUST(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  workload::fill_pattern(own, kBytes, static_cast<uint32_t>(which));
  const auto* file = static_cast<char*>(MUST(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, kFirst + which, 0)));
  workload::set(&shared->ready[which]);
  workload::wait_for_go_signal();
  CHECK(workload::has_pattern(own, kBytes, static_cast<uint32_t>(which)));
  CHECK_EQ(file[0], 'a' + which);
  MUST(close(kFirst + which));
  return 0;
}

}  // namespace

WORKLOAD("a dozen children share the descriptor table of their parent, each with memory of its own") {
  shared = workload::shared_object<Shared>();
  for (int i = 0; i < kChildren; ++i) {
    char name[8] = {'f', static_cast<char>('a' + i)};
    const int file = MUST(open(name, O_RDWR | O_CREAT, 0600));
    CHECK_EQ(write(file, name + 1, 1), 1);
    CHECK_EQ(MUST(dup2(file, kFirst + i)), kFirst + i);
    close(file);
    shared->number[i] = workload::clone_child(child, CLONE_FILES | SIGCHLD, reinterpret_cast<void*>(static_cast<intptr_t>(i)));
  }
  for (const int& ready : shared->ready) workload::wait_until(&ready);
  workload::checkpoint_here();
  for (int i = 0; i < kChildren; ++i) {
    CHECK_EQ(fcntl(kFirst + i, F_GETFD), 0);
    workload::tell_to_go(shared->number[i]);
    workload::wait_for_success(shared->number[i]);
    CHECK_EQ(fcntl(kFirst + i, F_GETFD), -1);
  }
}
