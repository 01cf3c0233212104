#include <sys/mman.h>
#include <sys/prctl.h>

#include "tests/workloads/smaps.h"

namespace {
constexpr int kSetMemoryMerge = 67, kGetMemoryMerge = 68;  // PR_SET_MEMORY_MERGE, Linux 6.4
using workload::has_vm_flag;

char* map() {
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  MUST(mprotect(memory + 3 * 4096, 4096, PROT_NONE));  // so that it does not merge with the next
  workload::fill_pattern(memory, 3 * 4096, 3);
  return memory;
}
}  // namespace

WORKLOAD("memory that the kernel may merge with equal pages stays such memory, by advice and for a whole process") {
  char* const advised = map();
  if (madvise(advised, 3 * 4096, MADV_MERGEABLE) != 0) workload::skip("this kernel does not merge pages");
  char* const random = map();
  MUST(madvise(random, 3 * 4096, MADV_RANDOM));
  char* const sequential = map();
  MUST(madvise(sequential, 3 * 4096, MADV_SEQUENTIAL));
  const pid_t child = workload::fork_child([=] {
    if (prctl(kSetMemoryMerge, 1, 0, 0, 0) != 0) workload::skip("this kernel has no PR_SET_MEMORY_MERGE");
    workload::checkpoint_here();
    CHECK_EQ(prctl(kGetMemoryMerge, 0, 0, 0, 0), 1);
    char* const after = map();
    CHECK(has_vm_flag(after, "mg"));
  });
  CHECK(has_vm_flag(advised, "mg") && has_vm_flag(random, "rr") && has_vm_flag(sequential, "sr"));
  workload::checkpoint_here();
  CHECK(has_vm_flag(advised, "mg") && has_vm_flag(random, "rr") && has_vm_flag(sequential, "sr"));
  CHECK(!has_vm_flag(random, "mg"));
  CHECK_EQ(prctl(kGetMemoryMerge, 0, 0, 0, 0), 0);
  for (char* memory : {advised, random, sequential}) CHECK(workload::has_pattern(memory, 3 * 4096, 3));
  workload::join(child);
}
