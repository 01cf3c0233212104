// bits: 64 32
#include "tests/workloads/workload.h"

WORKLOAD("the heap made by brk keeps its content and its end, and grows and shrinks from there") {
  constexpr size_t kBytes = 1 << 20;
  auto* memory = static_cast<char*>(MUST(sbrk(kBytes)));
  workload::fill_pattern(memory, kBytes, 1);
  void* const end = sbrk(0);
  workload::checkpoint_here();
  CHECK_EQ(sbrk(0), end);
  CHECK(workload::has_pattern(memory, kBytes, 1));
  CHECK_EQ(MUST(sbrk(kBytes)), end);
  workload::fill_pattern(end, kBytes, 2);
  CHECK(workload::has_pattern(memory, kBytes, 1));
  MUST(sbrk(-static_cast<intptr_t>(2 * kBytes)));
  CHECK_EQ(sbrk(0), static_cast<void*>(memory));
}
