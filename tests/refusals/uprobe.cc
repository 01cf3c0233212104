#include <linux/perf_event.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

namespace {

[[gnu::noinline]] int probed(int value) {
  asm volatile("");
  return value + 1;
}

// Where the function is in the program's file.
uint64_t offset_in_file(const void* function) {
  FILE* maps = MUST(fopen("/proc/self/maps", "re"));
  char line[512];
  uint64_t found = 0;
  while (fgets(line, sizeof line, maps)) {
    unsigned long from = 0, to = 0, offset = 0;
    const auto at = reinterpret_cast<unsigned long>(function);
    if (sscanf(line, "%lx-%lx %*s %lx", &from, &to, &offset) == 3 && from <= at && at < to) found = offset + (at - from);
  }
  fclose(maps);
  return found;
}

}  // namespace

WORKLOAD("was probed: the kernel has put code of its own into the address space") {
  int type = -1;
  if (FILE* file = fopen("/sys/bus/event_source/devices/uprobe/type", "re")) {
    (void)!fscanf(file, "%d", &type);
    fclose(file);
  }
  if (type < 0) workload::skip("this kernel has no uprobes");
  static const char kSelf[] = "/proc/self/exe";
  perf_event_attr attributes{};
  attributes.size = sizeof attributes;
  attributes.type = static_cast<uint32_t>(type);
  attributes.uprobe_path = reinterpret_cast<uint64_t>(kSelf);
  attributes.probe_offset = offset_in_file(reinterpret_cast<const void*>(&probed));
  const long fd = syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
  if (fd < 0) workload::skip("a uprobe cannot be made here");
  CHECK_EQ(probed(4), 5);
  close(static_cast<int>(fd));
  workload::checkpoint_here();
  CHECK_EQ(probed(5), 6);
}
