#include <sys/mman.h>
#include <sys/prctl.h>

#include "tests/workloads/workload.h"

namespace {
constexpr int kSetMdwe = 65, kGetMdwe = 66;  // PR_SET_MDWE, Linux 6.3
}  // namespace

WORKLOAD("a process that gave up memory both written and executed cannot have it afterwards either") {
  if (prctl(kSetMdwe, 1, 0, 0, 0) != 0) workload::skip("this kernel has no PR_SET_MDWE");
  workload::checkpoint_here();
  CHECK_EQ(prctl(kGetMdwe, 0, 0, 0, 0), 1);
  errno = 0;
  CHECK(mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
  CHECK_EQ(errno, EACCES);
}
