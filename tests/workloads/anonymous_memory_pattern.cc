// bits: 64 32
#include <sys/mman.h>

#include "tests/workloads/workload.h"

WORKLOAD("private anonymous memory keeps its content, page by page, whatever its protection") {
  constexpr size_t kPage = 4096, kPages = 2000;
  auto* memory = static_cast<char*>(
      MUST(mmap(nullptr, kPage * kPages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  workload::fill_pattern(memory, kPage * kPages, 11);
  // Pages that hold only zeros count as content too.
  memset(memory + 100 * kPage, 0, 50 * kPage);
  MUST(mprotect(memory + 500 * kPage, 100 * kPage, PROT_READ));
  MUST(mprotect(memory + 1000 * kPage, 100 * kPage, PROT_READ | PROT_EXEC));
  workload::checkpoint_here();
  for (size_t i = 100 * kPage; i < 150 * kPage; ++i) CHECK_EQ(memory[i], 0);
  workload::fill_pattern(memory + 100 * kPage, 50 * kPage, 12);
  CHECK(workload::has_pattern(memory, 100 * kPage, 11));
  CHECK(workload::has_pattern(memory + 100 * kPage, 50 * kPage, 12));
  // The rest of the first pattern, at its own positions.
  auto* copy = static_cast<char*>(malloc(kPage * kPages));
  workload::fill_pattern(copy, kPage * kPages, 11);
  CHECK(memcmp(copy + 150 * kPage, memory + 150 * kPage, (kPages - 150) * kPage) == 0);
  free(copy);
}
