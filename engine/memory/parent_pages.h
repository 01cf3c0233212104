// What the images that a dump builds on already hold.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "engine/memory/chunks.h"
#include "images/directory.h"
#include "images/types.h"

namespace dormouse::engine {

// pagemap_entry.flags
namespace page_flags {
inline constexpr std::uint32_t kInParent = 1, kLazy = 2, kPresent = 4;
}

struct PageRange {
  std::uint64_t start = 0, end = 0;
  friend bool operator==(const PageRange&, const PageRange&) = default;
};

class ParentPages {
 public:
  // `path` as seen from the directory `images_dir`, which it must not be itself. Reads all page maps.
  static Result<ParentPages> open(int images_dir, const std::string& path);

  // Empty: images of another engine, of which nobody knows since when they hold.
  const std::string& generation() const { return generation_; }
  // Ascending and disjoint. Pages that the parent has from its own parent are in it, too.
  std::span<const PageRange> covered(std::uint64_t pagemap_number) const;

 private:
  std::string generation_;
  std::map<std::uint64_t, std::vector<PageRange>> private_;
};

// Appends [start, end) to `runs`: where it is covered flagged as in the parent, elsewhere as `run` says.
void append_uncovered(const PageRun& run, std::span<const PageRange> covered, std::vector<PageRun>& runs);

}  // namespace dormouse::engine
