#include <fcntl.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

WORKLOAD("a memfd keeps its content, size, offset and seals, open and mapped at once") {
  const int fd = MUST(memfd_create("some name", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  MUST(ftruncate(fd, 100 * 4096));
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, 100 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)));
  workload::fill_pattern(memory + 40 * 4096, 4096, 1);
  MUST(lseek(fd, 77, SEEK_SET));
  MUST(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
  workload::checkpoint_here();
  CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW);
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 77);
  CHECK_EQ(lseek(fd, 0, SEEK_END), 100 * 4096);
  char page[4096];
  MUST(pread(fd, page, sizeof page, 40 * 4096));
  CHECK(workload::has_pattern(page, sizeof page, 1));
  memory[0] = 'm';
  MUST(pread(fd, page, 1, 0));
  CHECK_EQ(page[0], 'm');
  char target[64] = {};
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  MUST(readlink(path, target, sizeof target - 1));
  CHECK_EQ(target, "/memfd:some name (deleted)");
}
