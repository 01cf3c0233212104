#include "tests/refusals/secret.h"

WORKLOAD("holds secret memory, open and mapped") {
  const char* memory = make_secret();
  workload::checkpoint_here();
  CHECK_EQ(memory[0], 's');
}
