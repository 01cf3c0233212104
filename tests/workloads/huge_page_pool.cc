// lock: huge_pages
#include <fcntl.h>
#include <sys/mman.h>

#include "tests/workloads/smaps.h"

namespace {
constexpr size_t kHuge = 2 << 20;
constexpr int kHugeFlags = MAP_HUGETLB | 21 << MAP_HUGE_SHIFT;

char* map(int flags, int fd, size_t pages) {
  void* memory = mmap(nullptr, pages * kHuge, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (memory == MAP_FAILED && errno == ENOMEM) workload::skip("there are not enough huge pages (vm.nr_hugepages)");
  return static_cast<char*>(MUST(memory));
}
}  // namespace

WORKLOAD("memory from the pool of huge pages, private, shared and of a memfd, keeps its content and is still so") {
  char* own = map(MAP_PRIVATE | MAP_ANONYMOUS | kHugeFlags, -1, 2);
  char* shared = map(MAP_SHARED | MAP_ANONYMOUS | kHugeFlags, -1, 1);
  const int fd = memfd_create("huge", MFD_HUGETLB | MFD_ALLOW_SEALING | 21u << 26);
  if (fd == -1) workload::skip("no memfds of huge pages");
  MUST(ftruncate(fd, 2 * kHuge));
  char* of_file = map(MAP_SHARED, fd, 2);
  char* copy = map(MAP_PRIVATE, fd, 2);
  workload::fill_pattern(own + kHuge - 100, 200, 1);
  workload::fill_pattern(shared + 5000, 200, 2);
  workload::fill_pattern(of_file + kHuge, 200, 3);
  workload::fill_pattern(copy, 200, 4);
  MUST(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
  const pid_t child = workload::fork_child([=] {
    MUST(munmap(copy, 2 * kHuge));
    MUST(munmap(own, 2 * kHuge));
    workload::checkpoint_here();
    CHECK(workload::has_pattern(shared + 5000, 200, 2) && workload::has_pattern(of_file + kHuge, 200, 3));
    workload::fill_pattern(shared, 100, 5);
  });
  workload::checkpoint_here();
  CHECK(workload::has_pattern(own + kHuge - 100, 200, 1));
  CHECK(workload::has_pattern(shared + 5000, 200, 2));
  CHECK(workload::has_pattern(of_file + kHuge, 200, 3) && workload::has_pattern(copy + kHuge, 200, 3));
  CHECK(workload::has_pattern(copy, 200, 4));
  CHECK_EQ(of_file[0], 0);
  for (const char* memory : {own, shared, of_file, copy}) {
    CHECK_EQ(workload::smaps_kilobytes(memory, "KernelPageSize"), 2048);
    CHECK(workload::has_vm_flag(memory, "ht"));
  }
  CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_GROW);
  workload::join(child);
  CHECK(workload::has_pattern(shared, 100, 5));
}
