#include <fcntl.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

namespace {
constexpr size_t kPage = 4096;
constexpr int kGuardInstall = 102, kGuardRemove = 103;  // MADV_GUARD_INSTALL, Linux 6.13

// As the kernel sees it: EFAULT where the task would get SIGSEGV.
bool is_guarded(const char* at) {
  int ends[2];
  MUST(pipe(ends));
  const bool faults = write(ends[1], at, 1) == -1 && errno == EFAULT;
  close(ends[0]);
  close(ends[1]);
  return faults;
}
}  // namespace

WORKLOAD("guard pages guard, in the midst of content, over two mappings, in locked memory and in a child, until they are removed") {
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, 16 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  workload::fill_pattern(memory, 16 * kPage, 1);
  if (madvise(memory + 2 * kPage, kPage, kGuardInstall) == -1) workload::skip("this kernel has no guard pages");
  MUST(madvise(memory + 7 * kPage, 2 * kPage, kGuardInstall));
  MUST(mprotect(memory + 8 * kPage, 4 * kPage, PROT_READ));  // the guards before are in two mappings now
  MUST(madvise(memory + 13 * kPage, kPage, kGuardInstall));
  (void)mlock(memory + 12 * kPage, 4 * kPage);  // ENOMEM for the guard, and locked all the same
  const int fd = MUST(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600));
  MUST(ftruncate(fd, 4 * kPage));
  auto* of_file = static_cast<char*>(MUST(mmap(nullptr, 4 * kPage, PROT_READ, MAP_PRIVATE, fd, 0)));
  const bool files_too = madvise(of_file + kPage, kPage, kGuardInstall) == 0;  // Linux 6.15
  const pid_t child = workload::fork_child([=] {
    MUST(madvise(memory + 2 * kPage, kPage, kGuardRemove));
    MUST(madvise(memory + 4 * kPage, kPage, kGuardInstall));
    workload::checkpoint_here();
    CHECK(!is_guarded(memory + 2 * kPage) && is_guarded(memory + 4 * kPage) && is_guarded(memory + 7 * kPage));
    CHECK_EQ(memory[2 * kPage], 0);
  });
  workload::checkpoint_here();
  for (const size_t page : {2, 7, 8, 13}) CHECK(is_guarded(memory + page * kPage));
  for (const size_t page : {0, 1, 3, 4, 5, 6, 9, 10, 11, 12, 14, 15}) CHECK(!is_guarded(memory + page * kPage));
  if (files_too) CHECK(is_guarded(of_file + kPage) && !is_guarded(of_file));
  CHECK(workload::has_pattern(memory, 2 * kPage, 1));
  MUST(munlock(memory + 12 * kPage, 4 * kPage));
  MUST(madvise(memory, 16 * kPage, kGuardRemove));
  for (const size_t page : {2, 7, 8, 13}) CHECK(!is_guarded(memory + page * kPage) && memory[page * kPage] == 0);
  workload::join(child);
}
