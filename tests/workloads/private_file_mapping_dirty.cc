#include <fcntl.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

WORKLOAD("a private mapping of a file keeps the pages changed in memory and takes the others from the file") {
  constexpr size_t kPage = 4096, kPages = 32;
  const int fd = MUST(open("data", O_RDWR | O_CREAT | O_TRUNC, 0644));
  MUST(ftruncate(fd, kPage * kPages));
  auto* writable = static_cast<char*>(MUST(mmap(nullptr, kPage * kPages, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)));
  workload::fill_pattern(writable, kPage * kPages, 1);
  MUST(munmap(writable, kPage * kPages));
  // From the second page on, so that offsets matter.
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, kPage * (kPages - 1), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, kPage)));
  MUST(close(fd));
  workload::fill_pattern(memory + 4 * kPage, kPage, 2);
  workload::checkpoint_here();
  const int again = MUST(open("data", O_RDWR));
  char page[kPage];
  for (size_t n = 0; n < kPages - 1; ++n) {
    if (n == 4) {
      CHECK(workload::has_pattern(memory + n * kPage, kPage, 2));
    } else {
      CHECK_EQ(MUST(pread(again, page, kPage, static_cast<off_t>((n + 1) * kPage))), static_cast<ssize_t>(kPage));
      CHECK(memcmp(page, memory + n * kPage, kPage) == 0);
    }
  }
  // An untouched page still comes from the file: a change of the file shows.
  MUST(pwrite(again, "changed", 7, 20 * kPage));
  CHECK(memcmp(memory + 19 * kPage, "changed", 7) == 0);
}
