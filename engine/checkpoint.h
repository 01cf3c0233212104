// Saves a tree of tasks into a directory of images.
#pragma once

#include <expected>

#include "engine/options.h"

namespace dormouse::engine {

// On success the images are sealed (dormouse.json is the last file written) and the tasks are as
// `options.after` says. On any failure the tasks run on as if nothing had happened and there is no
// dormouse.json; every blocker found in the whole tree is in the answer.
std::expected<CheckpointReport, Failures> checkpoint(const CheckpointOptions& options);

}  // namespace dormouse::engine
