#include <sys/mman.h>

#include "tests/workloads/smaps.h"

WORKLOAD("memory that a fork leaves out or wipes is so in children born before the checkpoint and after it") {
  constexpr size_t kPage = 4096;
  const auto map = [] { return static_cast<char*>(MUST(mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))); };
  char* left_out = map();
  MUST(madvise(left_out, 4 * kPage, MADV_DONTFORK));
  char* wiped = map();
  MUST(madvise(wiped, 4 * kPage, MADV_WIPEONFORK));
  workload::fill_pattern(left_out, 4 * kPage, 1);
  workload::fill_pattern(wiped, 4 * kPage, 2);
  const auto check = [=] {
    CHECK(msync(left_out, kPage, MS_ASYNC) == -1 && errno == ENOMEM);  // not mapped
    CHECK_EQ(wiped[0], 0);
    CHECK(workload::has_vm_flag(wiped, "wf"));
  };
  const pid_t before = workload::fork_child([=] {
    workload::checkpoint_here();
    check();
    wiped[0] = 'c';
  });
  workload::checkpoint_here();
  CHECK(workload::has_pattern(left_out, 4 * kPage, 1) && workload::has_pattern(wiped, 4 * kPage, 2));
  CHECK(workload::has_vm_flag(left_out, "dc"));
  workload::join(before);
  workload::join(workload::fork_child(check));
}
