// bits: 64 32
#include <elf.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/workloads/workload.h"

namespace {
int64_t nanoseconds(const timespec& t) { return t.tv_sec * 1'000'000'000LL + t.tv_nsec; }
}  // namespace

WORKLOAD("clocks are read through the vdso as before and go on without a step back") {
  CHECK(getauxval(AT_SYSINFO_EHDR) != 0);
  timespec before{};
  MUST(clock_gettime(CLOCK_MONOTONIC, &before));
  workload::checkpoint_here();
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(getauxval(AT_SYSINFO_EHDR));
  CHECK(memcmp(header->e_ident, ELFMAG, SELFMAG) == 0);
  for (int i = 0; i < 1000; ++i) {
    timespec first{}, through_vdso{}, last{};
    CHECK_EQ(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &first), 0);
    MUST(clock_gettime(CLOCK_MONOTONIC, &through_vdso));
    CHECK_EQ(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &last), 0);
    CHECK(nanoseconds(first) <= nanoseconds(through_vdso) && nanoseconds(through_vdso) <= nanoseconds(last));
    CHECK(nanoseconds(before) <= nanoseconds(first));
  }
}
