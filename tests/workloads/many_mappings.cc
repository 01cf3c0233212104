#include <sys/mman.h>

#include "tests/workloads/workload.h"

WORKLOAD("thousands of mappings stay, each with its protection and content") {
  constexpr size_t kPage = 4096, kCount = 4000;
  // Every other page read-only, so that no two neighbours merge.
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, kPage * kCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  for (size_t i = 0; i < kCount; ++i) {
    memcpy(memory + i * kPage, &i, sizeof i);
    if (i % 2 == 1) MUST(mprotect(memory + i * kPage, kPage, PROT_READ));
  }
  workload::checkpoint_here();
  for (size_t i = 0; i < kCount; ++i) {
    CHECK_EQ(*reinterpret_cast<size_t*>(memory + i * kPage), i);
    if (i % 2 == 0) memory[i * kPage] = 1;
  }
}
