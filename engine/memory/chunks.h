// The page file cut into the chunks that its checksums cover, and where each byte of a chunk belongs.
#pragma once

#include <cstdint>
#include <vector>

#include "images/directory.h"

namespace dormouse::engine {

// Pages [start, end) of an address space (or of a shared object), in the order of the page file.
struct PageRun {
  std::uint64_t start = 0, end = 0;
  std::uint32_t flags = 0;  // pagemap_entry.flags
  bool readable = true;     // dump: by the task itself
};

struct Piece {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
};

struct Chunk {
  std::uint64_t offset = 0;  // in the page file
  std::uint64_t bytes = 0;
  bool readable = true;      // all of it
  std::vector<Piece> pieces;
};

std::vector<Chunk> cut_into_chunks(const std::vector<PageRun>& runs);

}  // namespace dormouse::engine
