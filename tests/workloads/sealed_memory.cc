#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/workloads/smaps.h"

namespace {
constexpr size_t kPage = 4096;
constexpr long kMseal = 462;  // Linux 6.10
}  // namespace

WORKLOAD("sealed mappings keep their content and cannot be changed, in a child neither") {
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, 8 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  workload::fill_pattern(memory, 8 * kPage, 1);
  MUST(mprotect(memory + 4 * kPage, kPage, PROT_READ));
  if (syscall(kMseal, memory + 2 * kPage, 3 * kPage, 0) == -1) workload::skip("this kernel has no mseal()");
  const auto check = [=] {
    CHECK(workload::has_vm_flag(memory + 2 * kPage, "sl") && workload::has_vm_flag(memory + 4 * kPage, "sl"));
    CHECK(!workload::has_vm_flag(memory, "sl") && !workload::has_vm_flag(memory + 5 * kPage, "sl"));
    CHECK(mprotect(memory + 2 * kPage, kPage, PROT_NONE) == -1 && errno == EPERM);
    CHECK(munmap(memory + 4 * kPage, kPage) == -1 && errno == EPERM);
    CHECK(workload::has_pattern(memory, 8 * kPage, 1));
  };
  const pid_t child = workload::fork_child([=] {
    workload::checkpoint_here();
    check();
  });
  workload::checkpoint_here();
  check();
  MUST(mprotect(memory, kPage, PROT_NONE));
  workload::join(child);
}
