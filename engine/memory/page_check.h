// Checksums of page files that are read in part.
#pragma once

#include "engine/restore_context.h"

namespace dormouse::engine {

// A checksum covers a chunk of a file. Where all of a chunk is loaded, it is compared while that happens;
// of a parent's chunk only some pages may be needed, so it is read and compared here, before anything is made.
[[nodiscard]] Result<> check_shared_chunks(const RestoreContext& context);

}  // namespace dormouse::engine
