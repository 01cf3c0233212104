#pragma once

#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

// A page of secret memory, open and mapped, in which is 's'.
inline char* make_secret() {
  const long fd = syscall(SYS_memfd_secret, 0);
  if (fd < 0) workload::skip("this kernel has no secret memory");
  MUST(ftruncate(static_cast<int>(fd), 4096));
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, static_cast<int>(fd), 0)));
  memory[0] = 's';
  return memory;
}
