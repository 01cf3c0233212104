#include <sys/mman.h>

#include "tests/workloads/smaps.h"

namespace {
constexpr size_t kPage = 4096;
constexpr int kDroppable = 8;  // MAP_DROPPABLE, Linux 6.11
}  // namespace

WORKLOAD("memory that the kernel may drop stays such memory, and each page is what it was or empty") {
  void* mapped = mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, kDroppable | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) workload::skip("this kernel has no droppable memory");
  auto* memory = static_cast<char*>(mapped);
  workload::fill_pattern(memory, kPage, 1);
  CHECK(workload::has_vm_flag(memory, "dp"));
  workload::checkpoint_here();
  CHECK(workload::has_vm_flag(memory, "dp"));
  static const char kEmpty[kPage] = {};
  CHECK(workload::has_pattern(memory, kPage, 1) || memcmp(memory, kEmpty, kPage) == 0);
  memory[2 * kPage] = 'd';
}
