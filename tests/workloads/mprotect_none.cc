#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

namespace {
sigjmp_buf g_back;
void on_fault(int) { siglongjmp(g_back, 1); }
bool faults(volatile char* address) {
  if (sigsetjmp(g_back, 1) != 0) return true;
  (void)*address;
  return false;
}
}  // namespace

WORKLOAD("memory without any access stays so and keeps what was in it") {
  constexpr size_t kBytes = 16 * 4096;
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  auto* guard = static_cast<char*>(MUST(mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)));
  workload::fill_pattern(memory, kBytes, 1);
  MUST(mprotect(memory, kBytes, PROT_NONE));
  signal(SIGSEGV, on_fault);
  workload::checkpoint_here();
  CHECK(faults(memory));
  CHECK(faults(guard + kBytes - 1));
  MUST(mprotect(memory, kBytes, PROT_READ));
  CHECK(!faults(memory));
  CHECK(workload::has_pattern(memory, kBytes, 1));
}
