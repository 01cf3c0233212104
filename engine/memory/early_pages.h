// Pages that are copied while the kernel still writes a long smaps, which leaves a processor with little to do: some 20 ms for
// 10,000 mappings (6.18). As far as it came is the beginning of the page file; PagesDump goes on from there.
//
// The process is stopped, and nobody has entered it. Nothing is known yet that could stand in the way of a dump: what was
// written is then discarded with the other images.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "engine/memory/page_runs.h"
#include "images/directory.h"

namespace dormouse::engine {

class EarlyPages {
 public:
  // `memory`: /proc/PID/mem. `regions` outlive it.
  EarlyPages(images::PageFile to, Fd memory, std::span<const abi::PageRegion> regions);

  // The next mapping, in ascending order.
  void add(const pb::vma_entry& vma);
  // Copies one more chunk. False: none is complete, or there will be no more, because something went wrong, which whoever
  // goes on finds out again.
  bool copy_one();

  struct Copied {
    images::PageFile file;
    std::vector<Chunk> chunks;  // of the file's beginning
    std::vector<std::uint64_t> sums;
  };
  Copied take() &&;

 private:
  bool complete_chunk();

  Copied copied_;
  Fd memory_;
  RunFinder finder_;
  std::vector<PageRun> runs_;  // of what was added; those before next_ have been copied
  std::size_t next_ = 0;
  Chunk chunk_;                // what comes next
  std::vector<std::byte> buffer_;
  bool ended_ = false;
};

// Whether a page file of `chunks` begins with those that have been copied.
bool is_beginning(std::span<const Chunk> copied, std::span<const Chunk> chunks);

}  // namespace dormouse::engine
