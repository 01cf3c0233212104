#include <sys/mman.h>

#include "tests/workloads/workload.h"

namespace {
constexpr size_t kPage = 4096, kPages = 4096;
size_t resident_pages(void* memory) {
  static unsigned char present[kPages];
  MUST(mincore(memory, kPage * kPages, present));
  size_t count = 0;
  for (unsigned char p : present) count += p & 1;
  return count;
}
}  // namespace

WORKLOAD("memory that was never touched stays untouched, and sparse pages stay where they were") {
  auto* memory = static_cast<char*>(
      MUST(mmap(nullptr, kPage * kPages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)));
  MUST(madvise(memory, kPage * kPages, MADV_NOHUGEPAGE));
  for (size_t page = 0; page < kPages; page += 64) memory[page * kPage + page % kPage] = 'x';
  CHECK_EQ(resident_pages(memory), kPages / 64);
  workload::checkpoint_here();
  CHECK_EQ(resident_pages(memory), kPages / 64);
  for (size_t page = 0; page < kPages; ++page)
    CHECK_EQ(memory[page * kPage + page % kPage], page % 64 == 0 ? 'x' : '\0');
}
