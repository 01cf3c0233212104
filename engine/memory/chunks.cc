#include "engine/memory/chunks.h"

#include <algorithm>
#include <utility>

namespace dormouse::engine {

std::vector<Chunk> cut_into_chunks(const std::vector<PageRun>& runs) {
  std::vector<PageRun> placed = runs;
  std::uint64_t offset = 0;
  for (PageRun& run : placed) {
    run.file = 0;
    run.offset = offset;
    offset += run.end - run.start;
  }
  return cut_in_place(std::move(placed));
}

std::vector<Chunk> cut_in_place(std::vector<PageRun> runs) {
  std::ranges::stable_sort(runs, {}, [](const PageRun& run) { return std::pair(run.file, run.offset); });
  std::vector<Chunk> chunks;
  for (const PageRun& run : runs) {
    std::uint64_t offset = run.offset;
    for (std::uint64_t at = run.start; at < run.end;) {
      const bool continues = !chunks.empty() && chunks.back().file == run.file && offset % images::kPageChunkBytes != 0 &&
                             chunks.back().offset + chunks.back().bytes == offset;
      if (!continues) chunks.push_back({offset, 0, true, {}, run.file});
      Chunk& chunk = chunks.back();
      const std::uint64_t bytes = std::min(run.end - at, images::kPageChunkBytes - offset % images::kPageChunkBytes);
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
