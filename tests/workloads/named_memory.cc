#include <sys/mman.h>
#include <sys/prctl.h>

#include "tests/workloads/workload.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

WORKLOAD("the name that a program gave to its anonymous memory stays") {
  auto* memory = MUST(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, memory, 8192, "a heap of mine") < 0) workload::skip("this kernel names no memory");
  workload::checkpoint_here();
  FILE* maps = MUST(fopen("/proc/self/maps", "re"));
  char line[512];
  bool found = false;
  while (fgets(line, sizeof line, maps)) {
    unsigned long from;
    found |= sscanf(line, "%lx-", &from) == 1 && from == reinterpret_cast<unsigned long>(memory) && strstr(line, "[anon:a heap of mine]");
  }
  fclose(maps);
  CHECK(found);
}
