#include "engine/dedup.h"

#include <algorithm>

#include "base/format.h"
#include "engine/memory/parent_pages.h"
#include "images/catalogue.h"
#include "images/page_holes.h"

namespace dormouse::engine {
namespace {

using images::ByteRange;
using images::PageHoles;

// Where the pages of `map` that lie in `ranges` (both ascending) are in its file.
std::vector<ByteRange> places_of(const PageMap& map, const std::vector<PageRange>& ranges) {
  std::vector<ByteRange> places;
  std::uint64_t offset = 0;
  auto range = ranges.begin();
  for (const MapEntry& entry : map.entries) {
    if (entry.flags & page_flags::kInParent) continue;
    while (range != ranges.end() && range->end <= entry.start) ++range;
    for (auto at = range; at != ranges.end() && at->start < entry.end; ++at) {
      const std::uint64_t start = std::max(at->start, entry.start), end = std::min(at->end, entry.end);
      places.push_back({offset + (start - entry.start), offset + (end - entry.start)});
    }
    offset += entry.end - entry.start;
  }
  return places;
}

}  // namespace

Result<> dedup(int images_dir) {
  images::Chain chain = TRY(images::Chain::open(images_dir));
  TRY(chain.reach(1));
  for (std::size_t level = 2; TRY(chain[level - 1].open_parent()); ++level) TRY(chain.reach(level));
  std::vector<PageHoles> holes(chain.size());
  for (const auto all = TRY(chain[0].list()); const auto& [name, size] : all) {
    const auto found = images::find_kind(name);
    if (!found || !found->number) continue;
    const images::ImageType& type = *found->kind->type;
    if (type.name != images::kPagemap.name && type.name != images::kShmemPagemap.name) continue;
    std::vector<PageRange> replaced;
    for (const auto map = TRY(read_page_map(chain[0], type, *found->number)); const MapEntry& entry : map.entries)
      if (!(entry.flags & page_flags::kInParent)) replaced.push_back({entry.start, entry.end});
    for (std::size_t level = 1; level < chain.size(); ++level) {
      if (!chain[level].exists(type, *found->number)) continue;
      const auto map = TRY_OR(read_page_map(chain[level], type, *found->number),
                              std::move(e).object(images::Chain::name(level, name)).owner("the images"));
      auto& of_file = holes[level][map.pages_number];
      const auto places = places_of(map, replaced);
      of_file.insert(of_file.end(), places.begin(), places.end());
    }
  }
  for (std::size_t level = 1; level < chain.size(); ++level)
    TRY_OR(punch_holes(chain.directory(level), holes[level], images::Dropped::kReplaced), std::move(e).owner("the parent images"));
  return {};
}

Result<> drop_restored(const RestoreContext& context) {
  std::vector<PageHoles> holes(context.chain->size());
  const auto note = [&](const std::vector<PageRun>& pages) {
    for (const Chunk& chunk : cut_in_place(pages)) {
      const PageFileName& file = context.image.page_files[chunk.file];
      holes[file.level][file.number].push_back({chunk.offset, chunk.offset + chunk.bytes});
    }
  };
  for (const ImageTask& task : context.image.tasks) note(task.pages);
  for (const auto& [shmid, object] : context.image.shmem) note(object.pages);
  for (std::size_t level = 0; level < holes.size(); ++level)
    TRY(punch_holes(context.chain->directory(level), holes[level], images::Dropped::kRestored));
  return {};
}

}  // namespace dormouse::engine
