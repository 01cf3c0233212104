// Thousands of mappings of a page each: every other one is read-only, so that no two neighbours merge. Each begins with its number.
#pragma once

#include <sys/mman.h>

#include "tests/workloads/workload.h"

namespace workload {

constexpr size_t kMappingBytes = 4096;

inline char* make_mappings(size_t count) {
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, kMappingBytes * count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  for (size_t i = 0; i < count; ++i) {
    memcpy(memory + i * kMappingBytes, &i, sizeof i);
    if (i % 2 == 1) MUST(mprotect(memory + i * kMappingBytes, kMappingBytes, PROT_READ));
  }
  return memory;
}

inline void expect_mappings(const char* memory, size_t count) {
  for (size_t i = 0; i < count; ++i) CHECK_EQ(*reinterpret_cast<const size_t*>(memory + i * kMappingBytes), i);
}

}  // namespace workload
