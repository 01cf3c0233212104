#include <sys/mman.h>

#include "tests/workloads/smaps.h"

namespace {
using workload::has_vm_flag;

void* map(int flags) {
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0)));
  MUST(mprotect(memory + 2 * 4096, 4096, PROT_NONE));  // so that it does not merge with the next
  return memory;
}
}  // namespace

WORKLOAD("locked memory stays locked, and advice on mappings stays given") {
  void* locked = map(0);
  MUST(::mlock(locked, 2 * 4096));
  memset(locked, 1, 4096);
  void* not_dumped = map(0);
  MUST(madvise(not_dumped, 2 * 4096, MADV_DONTDUMP));
  void* not_forked = map(0);
  MUST(madvise(not_forked, 2 * 4096, MADV_DONTFORK));
  void* wiped = map(0);
  MUST(madvise(wiped, 2 * 4096, MADV_WIPEONFORK));
  CHECK(has_vm_flag(locked, "lo") && has_vm_flag(not_dumped, "dd") && has_vm_flag(not_forked, "dc") && has_vm_flag(wiped, "wf"));
  workload::checkpoint_here();
  CHECK(has_vm_flag(locked, "lo"));
  CHECK(!has_vm_flag(not_dumped, "lo"));
  CHECK(has_vm_flag(not_dumped, "dd"));
  CHECK(has_vm_flag(not_forked, "dc"));
  CHECK(has_vm_flag(wiped, "wf"));
}
