#include <sys/mman.h>

#include "tests/workloads/smaps.h"

namespace {
constexpr size_t kPage = 4096, kPages = 64, kBytes = kPage * kPages;
constexpr long kilobytes(size_t pages) { return static_cast<long>(pages * kPage / 1024); }

// Of the one mapping that `at` lies in: kilobytes that nobody else maps.
long alone(const char* at) {
  return workload::smaps_kilobytes(at, "Private_Clean") + workload::smaps_kilobytes(at, "Private_Dirty");
}
// A mapping with nothing behind it for once more its size.
char* map() {
  void* const all = MUST(mmap(nullptr, 2 * kBytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  char* const memory = static_cast<char*>(all) + kPage;
  MUST(madvise(memory, 2 * kBytes, MADV_NOHUGEPAGE));
  MUST(mprotect(memory, 2 * kBytes, PROT_READ | PROT_WRITE));
  MUST(munmap(memory + kBytes, kBytes));
  return memory;
}
}  // namespace

WORKLOAD("pages stay shared with the parent in mappings that have grown in the child since") {
  char* memory = map();
  workload::fill_pattern(memory, kBytes, 1);
  const pid_t child = workload::fork_child([=] {
    CHECK_EQ(MUST(mremap(memory, kBytes, 2 * kBytes, 0)), memory);
    workload::fill_pattern(memory + kBytes, 4 * kPage, 2);
    workload::fill_pattern(memory + 8 * kPage, kPage, 3);
    const pid_t grandchild = workload::fork_child([=] {
      workload::checkpoint_here();
      CHECK(workload::has_pattern(memory, 8 * kPage, 1) && workload::has_pattern(memory + kBytes, 4 * kPage, 2));
      CHECK_EQ(workload::smaps_kilobytes(memory, "Size"), kilobytes(2 * kPages));
      CHECK_EQ(alone(memory), 0);
    });
    workload::checkpoint_here();
    CHECK(workload::has_pattern(memory, 8 * kPage, 1) && workload::has_pattern(memory + kBytes, 4 * kPage, 2));
    CHECK(workload::has_pattern(memory + 8 * kPage, kPage, 3));
    CHECK_EQ(memory[2 * kBytes - 1], 0);
    CHECK_EQ(workload::smaps_kilobytes(memory, "Size"), kilobytes(2 * kPages));
    CHECK_EQ(alone(memory), 0);
    workload::join(grandchild);
  });
  workload::checkpoint_here();
  CHECK(workload::has_pattern(memory, kBytes, 1));
  // Its page 8 is its own, and that byte of the child's that was looked at is nobody's.
  CHECK_EQ(alone(memory), kilobytes(1));
  workload::join(child);
}
