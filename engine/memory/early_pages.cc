#include "engine/memory/early_pages.h"

#include <algorithm>
#include <utility>

#include "engine/memory/page_copy.h"
#include "engine/memory/vma_kind.h"

namespace dormouse::engine {

EarlyPages::EarlyPages(images::PageFile to, Fd memory, std::span<const abi::PageRegion> regions)
    : copied_{std::move(to), {}, {}}, memory_(std::move(memory)), finder_(regions) {}

// The kernel may still write into a ring, whose content must fit what is found out about it later.
void EarlyPages::add(const pb::vma_entry& vma) {
  ended_ = ended_ || is_aio_ring(vma);
  if (!ended_) finder_.add(vma, runs_);
}

bool EarlyPages::complete_chunk() {
  while (next_ < runs_.size() && chunk_.bytes < images::kPageChunkBytes) {
    PageRun& run = runs_[next_];
    const std::uint64_t bytes = std::min<std::uint64_t>(run.end - run.start, images::kPageChunkBytes - chunk_.bytes);
    chunk_.pieces.push_back({run.start, bytes});
    chunk_.bytes += bytes;
    run.start += bytes;
    if (run.start == run.end) ++next_;
  }
  return chunk_.bytes == images::kPageChunkBytes;
}

bool EarlyPages::copy_one() {
  if (!complete_chunk()) return false;
  chunk_.pieces = joined(chunk_.pieces);
  const auto sum = copy_chunk(memory_.get(), chunk_, copied_.file, buffer_);
  if (!sum) {
    ended_ = true;
    runs_.clear();
    next_ = 0;
    chunk_ = {};
    return false;
  }
  copied_.sums.push_back(*sum);
  const std::uint64_t next = chunk_.offset + chunk_.bytes;
  copied_.chunks.push_back(std::exchange(chunk_, Chunk{.offset = next, .pieces = {}}));
  return true;
}

EarlyPages::Copied EarlyPages::take() && { return std::move(copied_); }

bool is_beginning(std::span<const Chunk> copied, std::span<const Chunk> chunks) {
  return copied.size() <= chunks.size() &&
         std::ranges::equal(copied, chunks.first(copied.size()), [](const Chunk& one, const Chunk& other) {
           return one.offset == other.offset && joined(one.pieces) == joined(other.pieces);
         });
}

}  // namespace dormouse::engine
