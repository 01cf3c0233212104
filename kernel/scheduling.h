// Where, when and with which priority a thread runs and does input and output.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "kernel/abi.h"

namespace dormouse::sys {

// sched_getattr(), sched_setattr() with bounds for the utilisation, Linux 5.3.
struct SchedAttrWithBounds : abi::SchedAttr {
  SchedAttrWithBounds() { size = 56; }
  std::uint32_t util_min = 0, util_max = 0;  // 0 to 1024; 0 without CONFIG_UCLAMP_TASK
};
static_assert(sizeof(SchedAttrWithBounds) == 56);
// `tid` 0: the caller, here and below.
Result<SchedAttrWithBounds> sched_getattr_with_bounds(pid_t tid);

// A set of CPUs as the kernel has it: bit n of byte n/8, without zero bytes at the end.
using CpuSet = std::string;
// Where the thread may run, of the CPUs that are in use.
Result<CpuSet> sched_getaffinity(pid_t tid);
// "0-3,8" as in /sys/devices/system/cpu/online.
Result<CpuSet> parse_cpu_list(std::string_view text);
// Whether `set` has all of `wanted`.
bool covers(const CpuSet& set, const CpuSet& wanted);

// The nice value, which sched_getattr() tells of ordinary threads only; others have one, too.
Result<int> nice_of(pid_t tid);

// abi::io_priority() of a thread; class kNone: it has none of its own.
Result<std::uint32_t> ioprio_get(pid_t tid);

}  // namespace dormouse::sys
