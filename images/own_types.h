// Kinds of image file that are ours: facts that the reference format has no place for. They have no ".img" in their
// names, so that tools which decode every image of a directory leave them alone.
#pragma once

#include "images/types.h"

namespace dormouse::images {

// Numbered by pid, one record for each thread.
inline constexpr ImageType kDormouseTask{"dormouse-task-{}", 0x446d5461};
inline constexpr ImageType kDormouseMemory{"dormouse-memory-{}", 0x446d4d65};

}  // namespace dormouse::images
