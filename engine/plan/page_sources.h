// In which page file each page of an image is, where images build on others.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "engine/memory/chunks.h"
#include "images/chain.h"

namespace dormouse::engine {

// A run of pages in a page map; addresses (or offsets in a shared object) in bytes.
struct MapEntry {
  std::uint64_t start = 0, end = 0;
  std::uint32_t flags = 0;  // page_flags
};
struct PageMap {
  std::uint32_t pages_number = 0;  // of pages-N.img
  std::uint64_t file_bytes = 0;    // its size; 0: this map needs no page of it
  std::vector<MapEntry> entries;   // ascending, disjoint
};
// Checked: ranges, their order, and that the page file has room for what is said to be in it.
Result<PageMap> read_page_map(const images::InputDirectory& in, const images::ImageType& type, std::uint64_t number);

struct PageFileName {
  std::size_t level = 0;  // in the chain
  std::uint32_t number = 0;
  std::uint64_t bytes = 0;  // size of the file
};

// Takes from `wanted` (ascending) what is in this map: runs in its own file, `file` by index, are appended to `found`, those
// that it has from its parent are the answer. What it has not at all is kCorruptImage.
Result<std::vector<MapEntry>> look_up(const PageMap& map, const std::vector<MapEntry>& wanted, std::uint32_t file,
                                      std::vector<PageRun>& found);

// All pages of a map of the youngest images, ascending, each with where it is; `files` grows by the page files used.
// Opens as much of the chain as is needed.
Result<std::vector<PageRun>> find_pages(images::Chain& chain, const images::ImageType& type, std::uint64_t number,
                                        std::vector<PageFileName>& files);
// The same where the youngest images' own map has been read already.
Result<std::vector<PageRun>> find_pages(images::Chain& chain, const images::ImageType& type, std::uint64_t number,
                                        PageMap youngest, std::vector<PageFileName>& files);

}  // namespace dormouse::engine
