#include <sys/mman.h>

#include "tests/workloads/workload.h"

namespace {
// Uses about `bytes` of stack.
[[gnu::noinline]] int dig(int bytes) {
  volatile char here[4096];
  here[0] = 1;
  return bytes <= 4096 ? here[0] : dig(bytes - 4096) + here[0];
}
}  // namespace

WORKLOAD("a mapping that grows downwards, and the stack itself, go on growing") {
  constexpr size_t kPage = 4096;
  // Room for it to grow into, then a mapping that does.
  auto* room = static_cast<char*>(MUST(mmap(nullptr, 1024 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  MUST(munmap(room, 1024 * kPage));
  auto* memory = static_cast<char*>(MUST(mmap(room + 1000 * kPage, 10 * kPage, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0)));
  workload::fill_pattern(memory, 10 * kPage, 1);
  memory[-1] = 'a';  // one page grown already
  workload::checkpoint_here();
  CHECK(workload::has_pattern(memory, 10 * kPage, 1));
  CHECK_EQ(memory[-1], 'a');
  for (size_t page = 1; page < 100; ++page) memory[-static_cast<intptr_t>(page * kPage)] = 'b';
  CHECK_EQ(dig(4 << 20), 1024);
}
