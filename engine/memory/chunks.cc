#include "engine/memory/chunks.h"

#include <algorithm>

namespace dormouse::engine {

std::vector<Chunk> cut_into_chunks(const std::vector<PageRun>& runs) {
  std::vector<Chunk> chunks;
  std::uint64_t offset = 0;
  for (const PageRun& run : runs) {
    for (std::uint64_t at = run.start; at < run.end;) {
      if (chunks.empty() || chunks.back().bytes == images::kPageChunkBytes)
        chunks.push_back({offset, 0, true, {}});
      Chunk& chunk = chunks.back();
      const std::uint64_t bytes = std::min(run.end - at, images::kPageChunkBytes - chunk.bytes);
      chunk.pieces.push_back({at, bytes});
      chunk.bytes += bytes;
      chunk.readable = chunk.readable && run.readable;
      at += bytes;
      offset += bytes;
    }
  }
  return chunks;
}

}  // namespace dormouse::engine
