#include <sys/mman.h>

#include "tests/workloads/smaps.h"

namespace {
constexpr size_t kPage = 4096, kPages = 512, kChanged = 64;

// What this process maps alone, by the kernel's own count.
long private_kilobytes(const void* address) {
  return workload::smaps_kilobytes(address, "Private_Clean") + workload::smaps_kilobytes(address, "Private_Dirty");
}
}  // namespace

WORKLOAD("memory inherited by fork keeps its content in both, and untouched pages stay shared") {
  // A mapping of its own kind, so that the kernel does not merge it with a neighbour.
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, kPage * kPages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  MUST(madvise(memory, kPage * kPages, MADV_NOHUGEPAGE));
  MUST(madvise(memory, kPage * kPages, MADV_DONTDUMP));
  workload::fill_pattern(memory, kPage * kPages, 1);
  const pid_t child = workload::fork_child([=] {
    workload::fill_pattern(memory, kPage * kChanged, 2);
    workload::checkpoint_here();
    CHECK(workload::has_pattern(memory, kPage * kChanged, 2));
    CHECK_EQ(private_kilobytes(memory), static_cast<long>(kChanged * kPage / 1024));
  });
  workload::checkpoint_here();
  CHECK(workload::has_pattern(memory, kPage * kPages, 1));
  CHECK_EQ(private_kilobytes(memory), static_cast<long>(kChanged * kPage / 1024));
  workload::join(child);  // counts its own pages while we still hold ours
}
