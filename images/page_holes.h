// Giving up pages of finished images: holes are punched where nobody will read again.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/error.h"
#include "images/directory.h"

namespace dormouse::images {

// Bytes [start, end) of a page file.
struct ByteRange {
  std::uint64_t start = 0, end = 0;
};
using PageHoles = std::map<std::uint64_t, std::vector<ByteRange>>;  // by the number of pages-N.img

// Punches the holes. Where there is a manifest, it says `why` from now on
// and its checksums are those of the files with their holes: chunks are compared with the old ones
// first, so that damage does not become the truth. An interruption leaves files whose size alone is guarded.
[[nodiscard]] Result<> punch_holes(int directory, const PageHoles& holes, Dropped why);

}  // namespace dormouse::images
