#include <fcntl.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

WORKLOAD("a memfd that is only mapped, shared, read-only, private, and beyond its end, stays one memory") {
  constexpr size_t kPage = 4096;
  const int fd = MUST(memfd_create("gone", 0));
  MUST(ftruncate(fd, 6 * kPage));
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  const int reader = MUST(open(path, O_RDONLY));
  const auto map = [](size_t pages, int protection, int flags, int from, size_t at) {
    return static_cast<char*>(MUST(mmap(nullptr, pages * kPage, protection, flags, from, static_cast<off_t>(at * kPage))));
  };
  char* shared = map(6, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  workload::fill_pattern(shared, 2 * kPage, 1);
  workload::fill_pattern(shared + 4 * kPage, kPage, 2);
  char* read_only = map(2, PROT_READ, MAP_SHARED, reader, 4);
  char* own = map(8, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  workload::fill_pattern(own + kPage, kPage, 3);
  MUST(close(fd));
  MUST(close(reader));
  const pid_t child = workload::fork_child([=] {
    MUST(munmap(own, 8 * kPage));
    workload::checkpoint_here();
    workload::fill_pattern(shared + 5 * kPage, kPage, 4);
  });
  workload::checkpoint_here();
  CHECK(workload::has_pattern(shared, 2 * kPage, 1) && workload::has_pattern(own, kPage, 1));
  CHECK(workload::has_pattern(own + kPage, kPage, 3));
  CHECK(workload::has_pattern(read_only, kPage, 2) && workload::has_pattern(own + 4 * kPage, kPage, 2));
  CHECK_EQ(shared[2 * kPage], 0);
  workload::join(child);
  CHECK(workload::has_pattern(read_only + kPage, kPage, 4) && workload::has_pattern(own + 5 * kPage, kPage, 4));
  CHECK(mprotect(read_only, kPage, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
  // Behind the end there is nothing: the kernel's own access fails where ours would be SIGBUS.
  int ends[2];
  MUST(pipe(ends));
  CHECK(write(ends[1], own + 6 * kPage, 1) == -1 && errno == EFAULT);
}
