// Open files that no kind can save: what they are, and what a user can do about them.
#pragma once

#include "base/error.h"

namespace dormouse::engine {

struct OpenFile;

// A complete blocker.
Error unsupported_file(const OpenFile& file);

}  // namespace dormouse::engine
