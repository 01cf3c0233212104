#include <asm/ldt.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

WORKLOAD("has segments of its own") {
  user_desc segment{};
  segment.limit = 0xfffff;
  segment.seg_32bit = 1;
  segment.limit_in_pages = 1;
  segment.useable = 1;
  if (syscall(SYS_modify_ldt, 0x11, &segment, sizeof segment) != 0) workload::skip("this kernel has no local descriptor tables");
  workload::checkpoint_here();
}
