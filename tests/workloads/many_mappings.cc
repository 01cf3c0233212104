#include "tests/workloads/mappings.h"

WORKLOAD("thousands of mappings stay, each with its protection and content") {
  constexpr size_t kCount = 4000;
  char* memory = workload::make_mappings(kCount);
  workload::checkpoint_here();
  workload::expect_mappings(memory, kCount);
  for (size_t i = 0; i < kCount; i += 2) memory[i * workload::kMappingBytes] = 1;
}
