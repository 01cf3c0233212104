#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "tests/workloads/workload.h"

namespace {
constexpr size_t kBytes = 40 << 20;
constexpr int kFree = 1;  // for the kit's own files

int open_one() { return open("/dev/null", O_RDONLY); }
}  // namespace

WORKLOAD("a process with much memory that has used up its descriptors goes on") {
  char* memory = static_cast<char*>(
      MUST(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  workload::fill_pattern(memory, kBytes, 3);
  rlimit limit{};
  MUST(getrlimit(RLIMIT_NOFILE, &limit));
  limit.rlim_cur = 40;
  MUST(setrlimit(RLIMIT_NOFILE, &limit));
  int last = -1, count = 0;
  for (int fd; (fd = open_one()) >= 0; ++count) last = fd;
  CHECK_EQ(errno, EMFILE);
  for (int i = 0; i < kFree; ++i) MUST(close(last - i));
  workload::checkpoint_here();
  for (int i = 0; i < kFree; ++i) CHECK_EQ(MUST(open_one()), last - kFree + 1 + i);
  CHECK_EQ(open_one(), -1);
  CHECK_EQ(errno, EMFILE);
  MUST(close(last));  // the verdict is a file, too
  CHECK(workload::has_pattern(memory, kBytes, 3));
}
