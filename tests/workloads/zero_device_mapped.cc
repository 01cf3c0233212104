#include <fcntl.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

WORKLOAD("/dev/zero mapped shared is memory that processes share, mapped privately it is each one's own") {
  constexpr size_t kPage = 4096;
  const int zero = MUST(open("/dev/zero", O_RDWR));
  const auto map = [=](int flags) { return static_cast<char*>(MUST(mmap(nullptr, 8 * kPage, PROT_READ | PROT_WRITE, flags, zero, 0))); };
  char* shared = map(MAP_SHARED);
  char* other = map(MAP_SHARED);
  char* own = map(MAP_PRIVATE);
  workload::fill_pattern(shared + kPage, kPage, 1);
  workload::fill_pattern(own + kPage, kPage, 2);
  const pid_t child = workload::fork_child([=] {
    own[0] = 'c';
    workload::checkpoint_here();
    CHECK(workload::has_pattern(shared + kPage, kPage, 1) && workload::has_pattern(own + kPage, kPage, 2));
    shared[0] = 's';
    own[1] = 'c';
  });
  workload::checkpoint_here();
  CHECK(workload::has_pattern(shared + kPage, kPage, 1) && workload::has_pattern(own + kPage, kPage, 2));
  workload::join(child);
  CHECK_EQ(shared[0], 's');
  CHECK_EQ(other[0], 0);
  CHECK_EQ(own[0], 0);
  CHECK_EQ(own[1], 0);
}
