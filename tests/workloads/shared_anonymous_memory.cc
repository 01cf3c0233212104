#include <sys/mman.h>

#include "tests/workloads/workload.h"

WORKLOAD("shared anonymous memory keeps its content and is still shared, also where a process maps only a part") {
  constexpr size_t kPage = 4096, kPages = 64;
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, kPage * kPages, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)));
  workload::fill_pattern(memory, kPage * 8, 1);
  workload::fill_pattern(memory + 40 * kPage, kPage * 8, 2);
  const pid_t child = workload::fork_child([=] {
    MUST(munmap(memory, 40 * kPage));
    workload::checkpoint_here();
    CHECK(workload::has_pattern(memory + 40 * kPage, kPage * 8, 2));
    workload::fill_pattern(memory + 50 * kPage, kPage, 3);
  });
  workload::checkpoint_here();
  CHECK(workload::has_pattern(memory, kPage * 8, 1));
  for (size_t i = 8 * kPage; i < 40 * kPage; ++i) CHECK_EQ(memory[i], 0);
  workload::join(child);
  CHECK(workload::has_pattern(memory + 50 * kPage, kPage, 3));
}
