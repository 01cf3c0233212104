#include <fcntl.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

WORKLOAD("a shared mapping of a file is still one with the file, in two processes and read-only too") {
  constexpr size_t kPage = 4096;
  const int fd = MUST(open("data", O_RDWR | O_CREAT | O_TRUNC, 0644));
  MUST(ftruncate(fd, 8 * kPage));
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, 8 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)));
  auto* readable = static_cast<char*>(MUST(mmap(nullptr, kPage, PROT_READ, MAP_SHARED, fd, 2 * kPage)));
  MUST(close(fd));
  workload::fill_pattern(memory, kPage, 1);
  const pid_t child = workload::fork_child([=] {
    workload::checkpoint_here();
    CHECK(workload::has_pattern(memory, kPage, 1));
    workload::fill_pattern(memory + kPage, kPage, 2);
  });
  workload::checkpoint_here();
  workload::join(child);
  CHECK(workload::has_pattern(memory + kPage, kPage, 2));
  const int again = MUST(open("data", O_RDWR));
  char page[kPage];
  MUST(pread(again, page, kPage, kPage));
  CHECK(workload::has_pattern(page, kPage, 2));
  MUST(pwrite(again, "seen", 4, 2 * kPage));
  CHECK(memcmp(readable, "seen", 4) == 0);
}
