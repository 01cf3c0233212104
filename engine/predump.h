// Saves the memory of a tree of tasks ahead of its checkpoint.
#pragma once

#include <expected>

#include "engine/options.h"

namespace dormouse::engine {

// The tasks are stopped only while it is noted which pages there are; these are read while the tasks run again, and
// the next dump saves what was written since. Images are sealed, but are no checkpoint by themselves. On any failure
// the tasks run on as if nothing had happened.
std::expected<CheckpointReport, Failures> pre_dump(const CheckpointOptions& options);

}  // namespace dormouse::engine
