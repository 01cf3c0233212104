// Brings a saved tree of tasks back.
#pragma once

#include <expected>

#include "engine/options.h"

namespace dormouse::engine {

// On success the tasks run (or are stopped, as asked) and are no longer traced. On any failure
// nothing is left behind: no task, mount, namespace or cgroup that this call made.
std::expected<RestoreReport, Failures> restore(const RestoreOptions& options);

}  // namespace dormouse::engine
