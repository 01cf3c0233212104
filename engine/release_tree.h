// What happens to the tasks after a dump.
#pragma once

#include <span>

#include "cgroups/freezer.h"
#include "engine/stop_tree.h"

namespace dormouse::engine {

// Leaving tasks behind is not an option: each is dealt with, whatever happened to another; the first error is told.
// `freezer`: of the tasks' cgroup, or null.

// As they were, or stopped. `stopped`: null if the tree could not be stopped, and was let go.
[[nodiscard]] Result<> put_back(StoppedTree* stopped, cgroups::Freezer* freezer, bool stop_afterwards);
// `large`: tasks with much memory of their own, which takes long to free.
[[nodiscard]] Result<> kill_tree(StoppedTree& stopped, cgroups::Freezer* freezer, std::span<const Task* const> large);

}  // namespace dormouse::engine
