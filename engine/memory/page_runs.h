// Which pages of private mappings are content, in the order in which the page file has them.
#pragma once

#include <span>
#include <vector>

#include "engine/memory/chunks.h"
#include "engine/memory/parent_pages.h"
#include "images/schema/memory.pb.h"
#include "kernel/abi.h"

namespace dormouse::engine {

// Cuts `regions` at the mappings' borders and leaves out what is not private memory. Pages that were not written since the
// parent images (`covered`) are left to those as far as they have them. All that it is made of outlives it.
class RunFinder {
 public:
  explicit RunFinder(std::span<const abi::PageRegion> regions, std::span<const PageRange> covered = {})
      : region_(regions.begin()), end_(regions.end()), covered_(covered) {}
  // The next mapping, in ascending order.
  void add(const pb::vma_entry& vma, std::vector<PageRun>& runs);

 private:
  std::span<const abi::PageRegion>::iterator region_, end_;
  std::span<const PageRange> covered_;
};

}  // namespace dormouse::engine
