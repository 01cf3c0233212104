#include "tests/refusals/secret.h"
#include "tests/workloads/mappings.h"

WORKLOAD("holds secret memory, and has thousands of mappings whose pages are copied before that is known") {
  constexpr size_t kCount = 8000;
  const char* many = workload::make_mappings(kCount);
  const char* memory = make_secret();
  workload::checkpoint_here();
  CHECK_EQ(memory[0], 's');
  workload::expect_mappings(many, kCount);
}
