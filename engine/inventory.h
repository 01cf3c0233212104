// What dumps and pre-dumps have in common of inventory.img.
#pragma once

#include <cstdint>

#include "engine/memory/page_tracking.h"
#include "engine/options.h"

namespace dormouse::engine {

// Time since boot, by which the reference engine tells a task from a later one with the same pid.
std::uint64_t uptime_microseconds();

// Whether memory can be tracked if that is asked for.
[[nodiscard]] Result<> check_tracking(const PageTracking& tracking, const CheckpointOptions& options);

}  // namespace dormouse::engine
