#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/workloads/workload.h"

WORKLOAD("shared anonymous memory that is also open as a file, and cut to another size, is both") {
  constexpr size_t kPage = 4096;
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)));
  char path[80];
  snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", reinterpret_cast<unsigned long>(memory),
           reinterpret_cast<unsigned long>(memory) + 4 * kPage);
  const int fd = open(path, O_RDWR);
  if (fd == -1 && errno == EPERM) workload::skip("map_files needs privileges that this process has not");
  CHECK(fd >= 0);
  workload::fill_pattern(memory, 2 * kPage, 1);
  MUST(ftruncate(fd, kPage + 5));
  MUST(lseek(fd, 3, SEEK_SET));
  workload::checkpoint_here();
  struct stat stat;
  MUST(fstat(fd, &stat));
  CHECK_EQ(stat.st_size, static_cast<off_t>(kPage + 5));
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 3);
  CHECK(workload::has_pattern(memory, kPage + 5, 1));
  MUST(pwrite(fd, "file", 4, 10));
  CHECK(memcmp(memory + 10, "file", 4) == 0);
  MUST(ftruncate(fd, 4 * kPage));
  memory[3 * kPage] = 'm';
  char byte;
  CHECK(pread(fd, &byte, 1, 3 * kPage) == 1 && byte == 'm');
}
