#include "engine/plan/page_sources.h"

#include <algorithm>

#include "base/format.h"
#include "base/pages.h"
#include "engine/memory/parent_pages.h"
#include "images/schema/memory.pb.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

using namespace page_flags;

// Older versions had other words for the same.
std::uint32_t flags_of(const pb::pagemap_entry& entry) {
  if (entry.in_parent()) return entry.flags() | kInParent;
  return entry.has_flags() ? entry.flags() : kPresent;
}

Result<> check_size(const images::InputDirectory& in, PageMap& map, std::string_view name) {
  std::uint64_t bytes = 0;
  for (const MapEntry& entry : map.entries)
    if (!(entry.flags & kInParent)) bytes += entry.end - entry.start;
  if (bytes == 0) return {};
  const Fd pages = TRY(in.open_raw(images::kPages, map.pages_number));
  const auto stat = TRY(sys::fstat(pages.get()));
  if (static_cast<std::uint64_t>(stat.st_size) < bytes)
    return fail(Error::corrupt(format("has {} bytes, {} says that there are {}", stat.st_size, name, bytes))
                    .object(images::file_name(images::kPages, map.pages_number))
                    .remedy("copy the checkpoint again from its source"));
  map.file_bytes = static_cast<std::uint64_t>(stat.st_size);
  return {};
}

}  // namespace

Result<PageMap> read_page_map(const images::InputDirectory& in, const images::ImageType& type, std::uint64_t number) {
  auto reader = TRY(in.reader(type, number));
  pb::pagemap_head head;
  if (!TRY(reader.next(head))) return fail(Error::corrupt("empty page map").object(reader.name()));
  PageMap map;
  map.pages_number = head.pages_id();
  std::uint64_t previous = 0;
  pb::pagemap_entry entry;
  while (TRY(reader.next(entry))) {
    const std::uint64_t pages = entry.has_nr_pages() ? entry.nr_pages() : entry.compat_nr_pages();
    if (entry.vaddr() % kPage != 0 || pages > kUserEnd / kPage || entry.vaddr() > kUserEnd - pages * kPage)
      return fail(Error::corrupt(format("a run of pages at {:#x} lies outside any address space", entry.vaddr()))
                      .object(reader.name()));
    if (entry.vaddr() < previous)
      return fail(Error::corrupt(format("the run of pages at {:#x} does not come after the one before", entry.vaddr()))
                      .object(reader.name()));
    const std::uint32_t flags = flags_of(entry);
    if (!(flags & (kInParent | kPresent)))
      return fail(Error::unsupported(format("the pages at {:#x} are in no file", entry.vaddr()))
                      .object(reader.name()).remedy("images of a lazy dump hold no pages: they stayed where it was made"));
    previous = entry.vaddr() + pages * kPage;
    if (pages != 0) map.entries.push_back({entry.vaddr(), previous, flags});
  }
  TRY(check_size(in, map, reader.name()));
  return map;
}

Result<std::vector<MapEntry>> look_up(const PageMap& map, const std::vector<MapEntry>& wanted, std::uint32_t file,
                                      std::vector<PageRun>& found) {
  std::vector<MapEntry> beyond;
  std::uint64_t offset = 0;  // in the page file, of the entry at hand
  auto entry = map.entries.begin();
  for (const MapEntry& want : wanted) {
    for (std::uint64_t start = want.start; start < want.end;) {
      for (; entry != map.entries.end() && entry->end <= start; ++entry)
        if (!(entry->flags & kInParent)) offset += entry->end - entry->start;
      if (entry == map.entries.end() || entry->start > start)
        return fail(Error::corrupt(format("the page at {:#x} is said to be there and is not", start)));
      const std::uint64_t end = std::min(want.end, entry->end);
      if (entry->flags & kInParent) beyond.push_back({start, end, entry->flags});
      else found.push_back({start, end, entry->flags, true, file, offset + (start - entry->start)});
      start = end;
    }
  }
  return beyond;
}

Result<std::vector<PageRun>> find_pages(images::Chain& chain, const images::ImageType& type, std::uint64_t number,
                                        std::vector<PageFileName>& files) {
  return find_pages(chain, type, number, TRY(read_page_map(chain[0], type, number)), files);
}

Result<std::vector<PageRun>> find_pages(images::Chain& chain, const images::ImageType& type, std::uint64_t number,
                                        PageMap map, std::vector<PageFileName>& files) {
  std::vector<PageRun> found;
  std::vector<MapEntry> wanted = map.entries;
  for (std::size_t level = 0;; ++level) {
    const std::string name = images::file_name(type, number);
    const auto told = [&](Error error) {
      return level == 0 ? std::move(error) : std::move(error).object(images::Chain::name(level, name)).owner("the images")
                                                 .remedy("the chain of images is not complete: bring back what was there at the dump");
    };
    if (level != 0) map = TRY_OR(read_page_map(*TRY(chain.reach(level)), type, number), told(std::move(e)));
    wanted = TRY_OR(look_up(map, wanted, static_cast<std::uint32_t>(files.size()), found), told(std::move(e)));
    files.push_back({level, map.pages_number, map.file_bytes});
    if (wanted.empty()) break;
  }
  std::ranges::sort(found, {}, &PageRun::start);
  return found;
}

}  // namespace dormouse::engine
