// Process groups, once it is known who is born of whom. Pure.
#pragma once

#include "base/error.h"
#include "engine/plan/family.h"

namespace dormouse::engine {

// Sets makes_group and joins_group of all members, and adds stand-ins for leaders that are gone.
[[nodiscard]] Result<> plan_groups(const Image& image, Family& family);

// The signal that stops the task again in the way it was stopped. A parent that waits sees which it was; but one that
// the task would handle, block, or be spared (the kernel stops no orphaned group by terminal signals) stops nothing,
// and then it is SIGSTOP.
int stop_signal_of(const Image& image, const ImageTask& task);

}  // namespace dormouse::engine
