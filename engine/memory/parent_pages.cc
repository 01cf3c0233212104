#include "engine/memory/parent_pages.h"

#include <fcntl.h>

#include <algorithm>

#include "base/format.h"
#include "engine/plan/page_sources.h"
#include "images/catalogue.h"
#include "kernel/file.h"

namespace dormouse::engine {

Result<ParentPages> ParentPages::open(int images_dir, const std::string& path) {
  const auto told = [&](Error error, std::string remedy) {
    return std::move(error).object("parent images " + path).owner("the dump").remedy(std::move(remedy));
  };
  const Fd directory = TRY_OR(sys::openat(images_dir, path, O_RDONLY | O_DIRECTORY),
                              told(std::move(e), "the path is meant from the images directory"));
  const auto own = TRY(sys::fstat(images_dir)), other = TRY(sys::fstat(directory.get()));
  if (own.st_dev == other.st_dev && own.st_ino == other.st_ino)
    return fail(told(Error::bad_option("they are in the directory that the new images are to go to"),
                     "dump into a directory of its own"));
  const auto in = TRY_OR(images::InputDirectory::open(directory.get()), std::move(e).owner("the parent images"));
  TRY_OR(in.verify(), std::move(e).owner("the parent images"));
  if (!in.exists(images::kInventory))
    return fail(told(Error::corrupt("there is no inventory.img"), "they come from a dump or pre-dump that did not finish"));
  ParentPages parent;
  if (in.info()) parent.generation_ = in.info()->generation;
  for (const auto all = TRY(in.list()); const auto& [name, size] : all) {
    const auto kind = images::find_kind(name);
    if (!kind || kind->kind->type->name != images::kPagemap.name || !kind->number) continue;
    const PageMap map = TRY_OR(read_page_map(in, images::kPagemap, *kind->number), std::move(e).owner("the parent images"));
    auto& ranges = parent.private_[*kind->number];
    for (const MapEntry& entry : map.entries) {
      if (!ranges.empty() && ranges.back().end == entry.start) ranges.back().end = entry.end;
      else ranges.push_back({entry.start, entry.end});
    }
  }
  return parent;
}

std::span<const PageRange> ParentPages::covered(std::uint64_t pagemap_number) const {
  const auto found = private_.find(pagemap_number);
  return found == private_.end() ? std::span<const PageRange>() : std::span<const PageRange>(found->second);
}

void append_uncovered(const PageRun& run, std::span<const PageRange> covered, std::vector<PageRun>& runs) {
  PageRun piece = run;
  auto at = std::ranges::upper_bound(covered, run.start, {}, &PageRange::end);
  while (piece.start < run.end) {
    const bool inside = at != covered.end() && at->start <= piece.start;
    piece.end = std::min(run.end, inside ? at->end : at != covered.end() ? at->start : run.end);
    piece.flags = inside ? page_flags::kInParent : run.flags;
    runs.push_back(piece);
    if (inside) ++at;
    piece.start = piece.end;
  }
}

}  // namespace dormouse::engine
