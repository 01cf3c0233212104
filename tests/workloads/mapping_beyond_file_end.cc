#include <fcntl.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

namespace {
constexpr size_t kPage = 4096;

// As the kernel sees it: EFAULT where the task would get SIGBUS.
bool is_there(const char* at) {
  int ends[2];
  MUST(pipe(ends));
  const bool there = write(ends[1], at, 1) == 1;
  close(ends[0]);
  close(ends[1]);
  return there;
}
}  // namespace

WORKLOAD("mappings longer than their file, shared, private and locked, end with it, and grow with it") {
  const int fd = MUST(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600));
  char content[2 * kPage];
  workload::fill_pattern(content, sizeof content, 1);
  MUST(write(fd, content, kPage + 100));
  char* mapped[3];
  for (char*& memory : mapped)
    memory = static_cast<char*>(MUST(mmap(nullptr, 8 * kPage, PROT_READ | PROT_WRITE, &memory == mapped ? MAP_SHARED : MAP_PRIVATE, fd, 0)));
  mapped[1][0] ^= 1;
  (void)mlock(mapped[2], 8 * kPage);  // ENOMEM, and locked all the same
  // Wholly behind the end.
  auto* behind = static_cast<char*>(MUST(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 4 * kPage)));
  workload::checkpoint_here();
  for (const char* memory : mapped) CHECK(is_there(memory + kPage) && !is_there(memory + 2 * kPage));
  CHECK(!is_there(behind));
  mapped[1][0] ^= 1;
  for (const char* memory : mapped) CHECK(workload::has_pattern(memory, kPage + 100, 1));
  MUST(pwrite(fd, "more", 4, 4 * kPage));
  for (const char* memory : mapped) CHECK(memcmp(memory + 4 * kPage, "more", 4) == 0);
  CHECK(memcmp(behind, "more", 4) == 0);
}
