// bits: 32
#include <sys/mman.h>
#include <sys/shm.h>

#include "tests/workloads/workload.h"

namespace {
constexpr size_t kBytes = 1 << 20;

// What the kernel was asked for is where it says: were it above 4 GiB, only half of the address would have arrived.
bool is_mapped(const void* address) {
  FILE* maps = MUST(fopen("/proc/self/maps", "re"));
  char line[512];
  bool found = false;
  while (fgets(line, sizeof line, maps) != nullptr) {
    unsigned long long start = 0, end = 0;
    if (sscanf(line, "%llx-%llx", &start, &end) == 2) found = found || (start <= reinterpret_cast<uintptr_t>(address) && reinterpret_cast<uintptr_t>(address) < end);
  }
  fclose(maps);
  return found;
}
void try_out(void* memory) {
  CHECK(is_mapped(memory));
  workload::fill_pattern(memory, kBytes, 5);
  CHECK(workload::has_pattern(memory, kBytes, 5));
}
}  // namespace

WORKLOAD("memory that 32-bit code asks for afterwards is where it can reach it") {
  void* before = MUST(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  workload::fill_pattern(before, kBytes, 3);
  workload::checkpoint_here();
  CHECK(workload::has_pattern(before, kBytes, 3));
  for (int i = 0; i < 20; ++i) try_out(MUST(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  void* moved = MUST(mremap(before, kBytes, 64 * kBytes, MREMAP_MAYMOVE));
  CHECK(workload::has_pattern(moved, kBytes, 3));
  try_out(static_cast<char*>(moved) + 63 * kBytes);
  try_out(MUST(sbrk(2 * kBytes)));
  const int segment = shmget(IPC_PRIVATE, kBytes, IPC_CREAT | 0600);
  if (segment < 0) return;  // a kernel without them
  void* attached = MUST(shmat(segment, nullptr, 0));
  MUST(shmctl(segment, IPC_RMID, nullptr));
  try_out(attached);
}
