#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/workloads/smaps.h"

namespace {
constexpr size_t kPage = 4096;
char* map() {
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, 6 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  MUST(mprotect(memory + 4 * kPage, 2 * kPage, PROT_NONE));  // so that it does not merge with the next
  return memory;
}
}  // namespace

WORKLOAD("memory locked as it comes stays so, and mappings to come are locked if that was asked for") {
  char* as_it_comes = map();
  MUST(mlock2(as_it_comes, 4 * kPage, MLOCK_ONFAULT));
  if (!workload::has_vm_flag(as_it_comes, "lf")) workload::skip("this kernel does not tell that memory is locked as it comes");
  as_it_comes[0] = 'l';
  const pid_t all = workload::fork_child([] {
    MUST(mlockall(MCL_FUTURE));
    workload::checkpoint_here();
    const char* memory = map();
    CHECK(workload::has_vm_flag(memory, "lo") && !workload::has_vm_flag(memory, "lf"));
  });
  const pid_t coming = workload::fork_child([] {
    MUST(mlockall(MCL_FUTURE | MCL_ONFAULT));
    workload::checkpoint_here();
    const char* memory = map();
    CHECK(workload::has_vm_flag(memory, "lo") && workload::has_vm_flag(memory, "lf"));
  });
  workload::checkpoint_here();
  CHECK(workload::has_vm_flag(as_it_comes, "lo") && workload::has_vm_flag(as_it_comes, "lf"));
  CHECK_EQ(workload::smaps_kilobytes(as_it_comes, "Rss"), 4);
  CHECK_EQ(as_it_comes[0], 'l');
  CHECK(!workload::has_vm_flag(map(), "lo"));
  workload::join(all);
  workload::join(coming);
}
