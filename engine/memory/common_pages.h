// Private pages that several processes have in common since fork(): read and summed up once, and written for each of them
// while they are in the processor's cache.
//
// Two pages at one address are one page if /proc/PID/pagemap tells the same frame number of both (bits 0-54 of a present
// page's entry; 0 without CAP_SYS_ADMIN, which is nothing in common). The kernel may move the pages of stopped processes
// (compaction, swap): the frames of the first process are looked at before and after those of the others, and what has not
// changed meanwhile was one page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/memory/chunks.h"
#include "images/directory.h"

namespace dormouse::engine {

// A stopped process's pages on their way into its page file. Nothing is owned.
struct PageSource {
  std::string name;               // for errors
  int memory = -1, pagemap = -1;  // its /proc/PID/mem and /proc/PID/pagemap
  std::span<const PageRun> runs;  // ascending
  const images::PageFile* to = nullptr;
};

// Groups of at least two (indices into `all`, ascending) that seem to have most of their pages in common.
std::vector<std::vector<std::size_t>> find_common(std::span<const PageSource> all);

// Writes the page files of one such group; the answer is the checksums of each one's. Right, if slow, whatever they have
// in common.
Result<std::vector<std::vector<std::uint64_t>>> copy_common(std::span<const PageSource> group);

}  // namespace dormouse::engine
