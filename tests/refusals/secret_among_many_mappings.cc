#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

WORKLOAD("holds secret memory, and has thousands of mappings whose pages are copied before that is known") {
  constexpr size_t kPage = 4096, kCount = 8000;
  auto* many = static_cast<char*>(MUST(mmap(nullptr, kPage * kCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  for (size_t i = 0; i < kCount; ++i) {
    memcpy(many + i * kPage, &i, sizeof i);
    if (i % 2 == 1) MUST(mprotect(many + i * kPage, kPage, PROT_READ));
  }
  const long fd = syscall(SYS_memfd_secret, 0);
  if (fd < 0) workload::skip("this kernel has no secret memory");
  MUST(ftruncate(static_cast<int>(fd), 4096));
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, static_cast<int>(fd), 0)));
  memory[0] = 's';
  workload::checkpoint_here();
  CHECK_EQ(memory[0], 's');
  for (size_t i = 0; i < kCount; ++i) CHECK_EQ(*reinterpret_cast<size_t*>(many + i * kPage), i);
}
