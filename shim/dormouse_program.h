// The command line `dormouse`: containers by their id.
#pragma once

#include "shim/engine_api.h"

namespace dormouse::shim {

// Returns the exit code: 0, 1 after a failure (one line on stderr says why), or that of a container
// that was restored in the foreground.
int dormouse_program(int argc, const char* const* argv, const EngineApi& engine);

}  // namespace dormouse::shim
