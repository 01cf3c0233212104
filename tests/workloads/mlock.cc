#include <sys/mman.h>

#include "tests/workloads/workload.h"

namespace {
// Whether smaps shows the flag for the mapping that begins at `start`.
bool has_flag(const void* start, const char* flag) {
  FILE* smaps = MUST(fopen("/proc/self/smaps", "re"));
  char line[512], wanted[8];
  snprintf(wanted, sizeof wanted, " %s ", flag);
  bool inside = false, found = false;
  while (fgets(line, sizeof line, smaps)) {
    unsigned long from, to;
    if (sscanf(line, "%lx-%lx ", &from, &to) == 2) inside = from == reinterpret_cast<unsigned long>(start);
    else if (inside && strncmp(line, "VmFlags:", 8) == 0) found = strstr(line, wanted) != nullptr;
  }
  fclose(smaps);
  return found;
}
void* map(int flags) {
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0)));
  MUST(mprotect(memory + 2 * 4096, 4096, PROT_NONE));  // so that it does not merge with the next
  return memory;
}
}  // namespace

WORKLOAD("locked memory stays locked, and advice on mappings stays given") {
  void* locked = map(0);
  MUST(::mlock(locked, 2 * 4096));
  memset(locked, 1, 4096);
  void* not_dumped = map(0);
  MUST(madvise(not_dumped, 2 * 4096, MADV_DONTDUMP));
  void* not_forked = map(0);
  MUST(madvise(not_forked, 2 * 4096, MADV_DONTFORK));
  void* wiped = map(0);
  MUST(madvise(wiped, 2 * 4096, MADV_WIPEONFORK));
  CHECK(has_flag(locked, "lo") && has_flag(not_dumped, "dd") && has_flag(not_forked, "dc") && has_flag(wiped, "wf"));
  workload::checkpoint_here();
  CHECK(has_flag(locked, "lo"));
  CHECK(!has_flag(not_dumped, "lo"));
  CHECK(has_flag(not_dumped, "dd"));
  CHECK(has_flag(not_forked, "dc"));
  CHECK(has_flag(wiped, "wf"));
}
