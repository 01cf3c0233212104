// Resource limits (setrlimit).
#pragma once

#include <sys/types.h>

#include <array>
#include <string_view>

#include "base/error.h"
#include "kernel/proc/small.h"

namespace dormouse::pb {
class task_rlimits_entry;
}

namespace dormouse::engine {

using Limits = std::array<proc::Limit, proc::kLimitCount>;

// "RLIMIT_NOFILE"
std::string_view limit_name(std::size_t number);

// From /proc/PID/limits: unlike prlimit(), reading that needs no privilege.
void save_limits(const Limits& limits, pb::task_rlimits_entry& to);

// Gives process `pid`, whose limits are `now`, those of the image. Only differences are touched. A hard limit
// above the present one needs CAP_SYS_RESOURCE: kUnsupported by name without it.
[[nodiscard]] Result<> apply_limits(pid_t pid, const Limits& now, const pb::task_rlimits_entry& from);

}  // namespace dormouse::engine
