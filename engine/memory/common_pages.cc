#include "engine/memory/common_pages.h"

#include <xxhash.h>

#include <algorithm>
#include <optional>

#include "base/format.h"
#include "base/pages.h"
#include "base/parallel.h"
#include "engine/memory/page_copy.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

constexpr std::uint64_t kPresent = std::uint64_t{1} << 63, kFrame = (std::uint64_t{1} << 55) - 1;

struct Page {
  std::uint64_t address = 0;
  std::uint64_t frame = 0;  // 0: not in memory, or nobody tells
  bool is(const Page& other) const { return address == other.address && frame == other.frame && frame != 0; }
  friend bool operator==(const Page&, const Page&) = default;
};

Result<> append_pages(int pagemap, const Piece& piece, std::vector<Page>& to) {
  std::vector<std::uint64_t> entries(piece.bytes / kPage);
  TRY_OR(sys::pread_exactly(pagemap, std::as_writable_bytes(std::span(entries)), piece.address / kPage * sizeof entries[0]),
         std::move(e).object("page map"));
  for (std::size_t i = 0; i < entries.size(); ++i)
    to.push_back({piece.address + i * kPage, entries[i] & kPresent ? entries[i] & kFrame : 0});
  return {};
}

Result<std::vector<Page>> pages_of(int pagemap, const Chunk& chunk) {
  std::vector<Page> pages;
  for (const Piece& piece : chunk.pieces) TRY(append_pages(pagemap, piece, pages));
  return pages;
}

// --- who has what in common ---------------------------------------------------------------------

constexpr std::size_t kSamples = 64;

// Some pages, evenly from all.
std::vector<Page> sample(const PageSource& source) {
  std::uint64_t count = 0, seen = 0, next = 0;
  for (const PageRun& run : source.runs) count += (run.end - run.start) / kPage;
  const std::uint64_t step = std::max<std::uint64_t>(1, count / kSamples);
  std::vector<Page> pages;
  for (const PageRun& run : source.runs) {
    const std::uint64_t end = seen + (run.end - run.start) / kPage;
    for (; next < end; next += step)
      if (!append_pages(source.pagemap, {run.start + (next - seen) * kPage, kPage}, pages)) return {};
    seen = end;
  }
  return pages;
}

bool has_most_of(const PageSource& source, const std::vector<Page>& samples) {
  std::size_t same = 0;
  for (const Page& page : samples) {
    std::vector<Page> own;
    if (!append_pages(source.pagemap, {page.address, kPage}, own)) return false;
    same += own[0].is(page) ? 1 : 0;
  }
  return same * 2 > samples.size();
}

// --- copying -------------------------------------------------------------------------------------

// What one thread of the engine works with.
class Hand {
 public:
  // Reads the chunk that others may have in common with this one.
  Result<> take(const PageSource& source, const Chunk& chunk) {
    first_.resize(chunk.bytes);
    TRY(read_pieces(source.memory, chunk.pieces, first_));
    // After the bytes: reading them may have brought pages back from swap.
    pages_ = TRY(pages_of(source.pagemap, chunk));
    sum_ = XXH64(first_.data(), first_.size(), 0);
    return {};
  }
  Result<bool> unchanged(const PageSource& source, const Chunk& chunk) const {
    return TRY(pages_of(source.pagemap, chunk)) == pages_;
  }
  Result<std::uint64_t> write_first(const PageSource& source, const Chunk& chunk) const {
    TRY(write_chunk(chunk, first_, *source.to));
    return sum_;
  }
  Result<std::uint64_t> write_other(const PageSource& source, const Chunk& chunk) {
    const auto pages = TRY(pages_of(source.pagemap, chunk));
    if (std::ranges::equal(pages, pages_, [](const Page& a, const Page& b) { return a.is(b); })) return write_first(source, chunk);
    TRY(assemble(source, chunk, pages));
    TRY(write_chunk(chunk, other_, *source.to));
    return XXH64(other_.data(), other_.size(), 0);
  }
  // Whatever others have.
  Result<std::uint64_t> write_alone(const PageSource& source, const Chunk& chunk) {
    return copy_chunk(source.memory, chunk, *source.to, other_);
  }

 private:
  // Copies what is in the first's chunk too, and reads the rest.
  Result<> assemble(const PageSource& source, const Chunk& chunk, const std::vector<Page>& pages) {
    other_.resize(chunk.bytes);
    std::size_t at = 0;  // in the first's
    for (std::size_t i = 0; i < pages.size();) {
      while (at < pages_.size() && pages_[at].address < pages[i].address) ++at;
      std::size_t count = 1;
      if (at < pages_.size() && pages[i].is(pages_[at])) {
        while (i + count < pages.size() && at + count < pages_.size() && pages[i + count].is(pages_[at + count])) ++count;
        std::ranges::copy(std::span(first_).subspan(at * kPage, count * kPage), other_.begin() + static_cast<std::ptrdiff_t>(i * kPage));
      } else {
        TRY(read_pieces(source.memory, {{{pages[i].address, kPage}}}, std::span(other_).subspan(i * kPage, kPage)));
      }
      i += count;
    }
    return {};
  }

  std::vector<std::byte> first_, other_;
  std::vector<Page> pages_;
  std::uint64_t sum_ = 0;
};

// A chunk of the first, and with it those of the others that begin where it is.
class Group {
 public:
  explicit Group(std::span<const PageSource> sources) : sources_(sources) {
    for (const PageSource& source : sources) {
      chunks_.push_back(cut_into_chunks({source.runs.begin(), source.runs.end()}));
      sums_.emplace_back(chunks_.back().size());
    }
  }

  Result<> copy() {
    constexpr std::size_t kAtOnce = 16;  // chunks of one job
    const std::size_t count = chunks_[0].size();
    return in_parallel((count + kAtOnce - 1) / kAtOnce, [&](std::size_t job) -> Result<> {
      Hand hand;
      for (std::size_t i = job * kAtOnce; i < std::min(count, (job + 1) * kAtOnce); ++i) TRY(step(hand, i));
      return {};
    }, 1);
  }
  std::vector<std::vector<std::uint64_t>> sums() && { return std::move(sums_); }

 private:
  std::size_t begin_of(std::size_t source, std::size_t index) const {
    if (source == 0) return index;
    const auto& chunks = chunks_[source];
    if (index == 0) return 0;
    if (index == chunks_[0].size()) return chunks.size();
    const std::uint64_t address = chunks_[0][index].pieces[0].address;
    return static_cast<std::size_t>(
        std::ranges::lower_bound(chunks, address, {}, [](const Chunk& chunk) { return chunk.pieces[0].address; }) - chunks.begin());
  }

  template <typename Write>
  Result<> each(std::size_t index, const Write& write) {
    for (std::size_t k = 0; k < sources_.size(); ++k) {
      // Each step begins with another file: writers of one file wait for each other.
      const std::size_t source = (index + k) % sources_.size();
      for (std::size_t c = begin_of(source, index); c < begin_of(source, index + 1); ++c)
        sums_[source][c] = TRY_OR(write(source, chunks_[source][c]), std::move(e).owner(sources_[source].name));
    }
    return {};
  }

  Result<> step(Hand& hand, std::size_t index) {
    const Chunk& first = chunks_[0][index];
    if (hand.take(sources_[0], first)) {
      TRY(each(index, [&](std::size_t source, const Chunk& chunk) {
        return source == 0 ? hand.write_first(sources_[0], chunk) : hand.write_other(sources_[source], chunk);
      }));
      if (TRY(hand.unchanged(sources_[0], first))) return {};
    }
    return each(index, [&](std::size_t source, const Chunk& chunk) { return hand.write_alone(sources_[source], chunk); });
  }

  std::span<const PageSource> sources_;
  std::vector<std::vector<Chunk>> chunks_;
  std::vector<std::vector<std::uint64_t>> sums_;
};

}  // namespace

std::vector<std::vector<std::size_t>> find_common(std::span<const PageSource> all) {
  // A process is compared with the groups before it, but not with all of a thousand.
  constexpr std::size_t kCompared = 4;
  struct Found {
    std::vector<Page> samples;
    std::vector<std::size_t> members;
  };
  std::vector<Found> groups;
  for (std::size_t i = 0; all.size() > 1 && i < all.size(); ++i) {
    const std::size_t oldest = groups.size() - std::min(groups.size(), kCompared);
    const auto group = std::ranges::find_if(groups.begin() + static_cast<std::ptrdiff_t>(oldest), groups.end(),
                                            [&](const Found& each) { return has_most_of(all[i], each.samples); });
    if (group != groups.end()) group->members.push_back(i);
    else groups.push_back({sample(all[i]), {i}});
  }
  std::vector<std::vector<std::size_t>> common;
  for (Found& group : groups)
    if (group.members.size() > 1) common.push_back(std::move(group.members));
  return common;
}

Result<std::vector<std::vector<std::uint64_t>>> copy_common(std::span<const PageSource> group) {
  Group work(group);
  TRY(work.copy());
  return std::move(work).sums();
}

}  // namespace dormouse::engine
