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
  bool readable = true;     // dump: by the task itself; else by the engine
  // Restore: which file of Image::page_files has them, from which byte on.
  std::uint32_t file = 0;
  std::uint64_t offset = 0;
};

struct Piece {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
  friend bool operator==(const Piece&, const Piece&) = default;
};

struct Chunk {
  std::uint64_t offset = 0;  // in the page file
  std::uint64_t bytes = 0;
  bool readable = true;      // all of it
  std::vector<Piece> pieces;
  std::uint32_t file = 0;    // restore: as in PageRun

  // Which checksum covers it, and whether it covers nothing else; `file_bytes`: size of the page file.
  std::uint64_t checksum_index() const { return offset / images::kPageChunkBytes; }
  bool is_whole(std::uint64_t file_bytes) const {
    return offset % images::kPageChunkBytes == 0 && (bytes == images::kPageChunkBytes || offset + bytes == file_bytes);
  }
};

// Makes runs of their own of the pages that these addresses are in, and not readable: what the kernel may change at
// any time must be read once, and what was read be written and summed up.
void set_apart(std::vector<PageRun>& runs, const std::vector<std::uint64_t>& addresses);

// As few as there can be.
std::vector<Piece> joined(const std::vector<Piece>& pieces);

// Of pages that stand one after the other in one file. Adjoining runs are one piece: their mappings may be many.
std::vector<Chunk> cut_into_chunks(const std::vector<PageRun>& runs);
// Of pages that are where each run says. A chunk is bytes that stand together.
std::vector<Chunk> cut_in_place(std::vector<PageRun> runs);

}  // namespace dormouse::engine
