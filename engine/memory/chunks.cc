#include "engine/memory/chunks.h"

#include <algorithm>
#include <utility>

#include "base/pages.h"

namespace dormouse::engine {

void set_apart(std::vector<PageRun>& runs, const std::vector<std::uint64_t>& addresses) {
  for (const std::uint64_t address : addresses) {
    const std::uint64_t page = address / kPage * kPage;
    const auto found = std::ranges::upper_bound(runs, page, {}, &PageRun::start);
    if (found == runs.begin() || std::prev(found)->end <= page) continue;
    const auto run = std::prev(found);
    std::vector<PageRun> parts(3, *run);
    parts[0].end = parts[1].start = page;
    parts[1].end = parts[2].start = page + kPage;
    parts[1].readable = false;
    std::erase_if(parts, [](const PageRun& part) { return part.start == part.end; });
    runs.insert(runs.erase(run), parts.begin(), parts.end());
  }
}

std::vector<Piece> joined(const std::vector<Piece>& pieces) {
  std::vector<Piece> all;
  for (const Piece& piece : pieces) {
    if (!all.empty() && all.back().address + all.back().bytes == piece.address) all.back().bytes += piece.bytes;
    else all.push_back(piece);
  }
  return all;
}

std::vector<Chunk> cut_into_chunks(const std::vector<PageRun>& runs) {
  std::vector<PageRun> placed;
  std::uint64_t offset = 0;
  for (const PageRun& run : runs) {
    if (!placed.empty() && placed.back().end == run.start && placed.back().readable == run.readable)
      placed.back().end = run.end;
    else
      placed.push_back({run.start, run.end, run.flags, run.readable, 0, offset});
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
