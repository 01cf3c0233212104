#include <sys/mman.h>

#include "tests/workloads/smaps.h"

namespace {
constexpr size_t kPage = 4096, kPages = 256, kBytes = kPage * kPages;

// Kilobytes of [from, from + pages) that nobody else maps.
long alone(const char* from, size_t pages) {
  long total = 0;
  for (const char* at = from; at < from + pages * kPage;) {
    total += workload::smaps_kilobytes(at, "Private_Clean") + workload::smaps_kilobytes(at, "Private_Dirty");
    at += workload::smaps_kilobytes(at, "Size") * 1024;
  }
  return total;
}
// A mapping that does not merge with its neighbours.
char* map() {
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, kBytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) + kPage;
  MUST(madvise(memory, kBytes, MADV_NOHUGEPAGE));
  MUST(mprotect(memory, kBytes, PROT_READ | PROT_WRITE));
  return memory;
}
constexpr long kilobytes(size_t pages) { return static_cast<long>(pages * kPage / 1024); }
}  // namespace

WORKLOAD("pages that a family shares since its forks stay shared: with grandchildren, between brothers, in cut mappings") {
  char* memory = map();
  char* cut = map();
  workload::fill_pattern(memory, kBytes, 1);
  workload::fill_pattern(cut, kBytes, 1);
  const pid_t first = workload::fork_child([=] {
    workload::fill_pattern(memory, 8 * kPage, 2);
    // One mapping of the parent's is three here, and a part of it is gone.
    MUST(mprotect(cut + 16 * kPage, 16 * kPage, PROT_READ));
    MUST(munmap(cut + 200 * kPage, 56 * kPage));
    const pid_t grandchild = workload::fork_child([=] {
      MUST(munmap(cut, 200 * kPage));
      workload::fill_pattern(memory + 8 * kPage, 8 * kPage, 3);
      workload::checkpoint_here();
      CHECK(workload::has_pattern(memory, 8 * kPage, 2) && workload::has_pattern(memory + 8 * kPage, 8 * kPage, 3));
      CHECK_EQ(alone(memory, kPages), kilobytes(8));
    });
    workload::checkpoint_here();
    CHECK(workload::has_pattern(memory, 8 * kPage, 2) && workload::has_pattern(cut, 200 * kPage, 1));
    CHECK_EQ(alone(memory, kPages), 0);
    CHECK_EQ(alone(cut, 200), 0);
    workload::join(grandchild);
  });
  const pid_t second = workload::fork_child([=] {
    MUST(madvise(memory + 32 * kPage, 8 * kPage, MADV_DONTNEED));
    workload::checkpoint_here();
    CHECK_EQ(memory[32 * kPage], 0);
    CHECK_EQ(alone(memory, 32), 0);
    CHECK_EQ(alone(cut, kPages), 0);
  });
  workload::checkpoint_here();
  CHECK(workload::has_pattern(memory, kBytes, 1) && workload::has_pattern(cut, kBytes, 1));
  CHECK_EQ(alone(memory, kPages), 0);
  CHECK_EQ(alone(cut, kPages), 0);
  workload::join(first);
  workload::join(second);
}
