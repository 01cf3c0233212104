// Giving up pages that nobody needs any more.
#pragma once

#include "base/error.h"
#include "engine/restore_context.h"

namespace dormouse::engine {

// Pages of the parent images (and of theirs) that the images in `images_dir` have themselves. The parents serve
// as parents only from then on, and say so.
[[nodiscard]] Result<> dedup(int images_dir);

// All pages that a restore has read. The images can be restored no more, and say so.
[[nodiscard]] Result<> drop_restored(const RestoreContext& context);

}  // namespace dormouse::engine
