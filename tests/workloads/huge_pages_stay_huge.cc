#include <sys/mman.h>

#include "tests/workloads/workload.h"

namespace {
long huge_kilobytes(const void* address) {
  FILE* smaps = MUST(fopen("/proc/self/smaps", "re"));
  char line[512];
  bool inside = false;
  long value = 0;
  while (fgets(line, sizeof line, smaps)) {
    unsigned long from, to;
    if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
      inside = from <= reinterpret_cast<unsigned long>(address) && reinterpret_cast<unsigned long>(address) < to;
    else if (inside && sscanf(line, "AnonHugePages: %ld", &value) == 1) break;
  }
  fclose(smaps);
  return value;
}
}  // namespace

WORKLOAD("memory that was in huge pages is in huge pages again") {
  constexpr size_t kHuge = 2 << 20, kBytes = 8 * kHuge;
  auto* room = static_cast<char*>(MUST(mmap(nullptr, kBytes + kHuge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  auto* start = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(room) + kHuge - 1) & ~(kHuge - 1));
  auto* memory = static_cast<char*>(MUST(mmap(start, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)));
  MUST(madvise(memory, kBytes, MADV_HUGEPAGE));
  workload::fill_pattern(memory, kBytes, 1);
  const long before = huge_kilobytes(memory);
  if (before == 0) workload::skip("this kernel gives out no huge pages");
  workload::checkpoint_here();
  CHECK(workload::has_pattern(memory, kBytes, 1));
  CHECK(huge_kilobytes(memory) >= before / 2);  // it may not always find free ones
}
