#include "kernel/pagemap.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <span>

#include "kernel/file.h"

namespace dormouse::sys {

namespace {

constexpr std::size_t kRegionsPerScan = 1024;
constexpr std::size_t kEntriesPerRead = 16384;

// Bits of an entry in /proc/PID/pagemap.
constexpr std::uint64_t kEntryFrame = (std::uint64_t{1} << 55) - 1;
constexpr std::uint64_t kEntrySoftDirty = std::uint64_t{1} << 55;
constexpr std::uint64_t kEntryGuard = std::uint64_t{1} << 58;  // Linux 6.15
constexpr std::uint64_t kEntryFile = std::uint64_t{1} << 61;
constexpr std::uint64_t kEntrySwapped = std::uint64_t{1} << 62;
constexpr std::uint64_t kEntryPresent = std::uint64_t{1} << 63;

std::uint64_t page_bytes() {
  static const auto bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

void append(std::vector<abi::PageRegion>& to, std::size_t from, const abi::PageRegion& region) {
  // Only ranges of this call are joined: the caller's earlier ones may mean another mapping.
  if (to.size() > from && to.back().end == region.start && to.back().categories == region.categories)
    to.back().end = region.end;
  else
    to.push_back(region);
}

bool wanted(std::uint64_t categories, const PageQuery& query) {
  categories ^= query.inverted;
  return (categories & query.all_of) == query.all_of &&
         (query.any_of == 0 || (categories & query.any_of) != 0);
}

// Reading an untouched private page maps the zero page there; our own pagemap then tells its frame.
std::uint64_t find_zero_frame() {
  const auto page = Mapping::map(-1, page_bytes(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
  const auto pagemap = sys::openat(AT_FDCWD, "/proc/self/pagemap", O_RDONLY);
  if (!page || !pagemap) return 0;
  (void)*static_cast<const volatile std::byte*>(page->data());
  std::uint64_t entry = 0;
  const auto at = reinterpret_cast<std::uintptr_t>(page->data()) / page_bytes() * sizeof entry;
  if (!sys::pread_exactly(pagemap->get(), std::as_writable_bytes(std::span(&entry, 1)), at)) return 0;
  return entry & kEntryPresent ? entry & kEntryFrame : 0;
}

}  // namespace

Result<Pagemap> Pagemap::open(const proc::ProcDir& task, bool scan) {
  return Pagemap(TRY(task.open_at("pagemap", O_RDONLY)), scan);
}

Result<std::vector<abi::PageRegion>> Pagemap::ranges(std::uint64_t start, std::uint64_t end,
                                                     const PageQuery& query) {
  std::vector<abi::PageRegion> found;
  TRY(append_ranges(start, end, query, found));
  return found;
}

Result<> Pagemap::append_ranges(std::uint64_t start, std::uint64_t end, const PageQuery& query,
                                std::vector<abi::PageRegion>& to) {
  return scan_ ? scan_ranges(start, end, query, to) : read_ranges(start, end, query, to);
}

Result<> Pagemap::scan_ranges(std::uint64_t start, std::uint64_t end, const PageQuery& query,
                              std::vector<abi::PageRegion>& to) {
  regions_.resize(kRegionsPerScan);
  const std::size_t from = to.size();
  while (start < end) {
    abi::PagemapScanArg arg;
    arg.size = sizeof arg;
    arg.flags = query.write_protect ? abi::kPmScanWpMatching | abi::kPmScanCheckWpasync : 0;
    arg.start = start;
    arg.end = end;
    arg.vec = reinterpret_cast<std::uintptr_t>(regions_.data());
    arg.vec_len = regions_.size();
    arg.category_inverted = query.inverted;
    arg.category_mask = query.all_of;
    arg.category_anyof_mask = query.any_of;
    arg.return_mask = query.returned;
    const int count = TRY(sys::ioctl(fd_.get(), abi::kPagemapScan, &arg));
    const auto found = std::span(regions_).first(static_cast<std::size_t>(count));
    for (const auto& region : found) append(to, from, region);
    // Room left over: the walk reached the end. walk_end does not always say so (seen on 6.18: after
    // more than 512 regions it stays where the kernel's own buffer was last emptied), and for the
    // same reason may lie before the last region.
    if (found.size() < regions_.size()) break;
    start = std::max(arg.walk_end, found.back().end);
  }
  return {};
}

Result<> Pagemap::read_ranges(std::uint64_t start, std::uint64_t end, const PageQuery& query,
                              std::vector<abi::PageRegion>& to) {
  if (((query.all_of | query.any_of | query.inverted | query.returned) & abi::kPageIsWritten) ||
      query.write_protect)
    return fail(Error::unsupported("tracking of written pages needs PAGEMAP_SCAN (Linux 6.7)"));
  if (!zero_frame_) zero_frame_ = find_zero_frame();
  entries_.resize(kEntriesPerRead);
  const std::size_t from = to.size();
  const std::uint64_t page = page_bytes();

  while (start < end) {
    const auto count = std::min<std::uint64_t>((end - start) / page, entries_.size());
    if (count == 0) break;
    const auto chunk = std::span(entries_).first(count);
    TRY(sys::pread_exactly(fd_.get(), std::as_writable_bytes(chunk), start / page * sizeof chunk[0]));
    for (const std::uint64_t entry : chunk) {
      std::uint64_t categories = 0;
      if (entry & kEntryPresent) {
        categories |= abi::kPageIsPresent;
        if (*zero_frame_ != 0 && (entry & kEntryFrame) == *zero_frame_)
          categories |= abi::kPageIsPfnzero;
      }
      // A guard region is kept as a swap entry of a special kind: nothing is in swap there.
      if (entry & kEntryGuard) categories |= abi::kPageIsGuard;
      if (entry & kEntrySwapped) categories |= abi::kPageIsSwapped;
      if (entry & kEntryFile) categories |= abi::kPageIsFile;
      if (entry & kEntrySoftDirty) categories |= abi::kPageIsSoftDirty;
      if (wanted(categories, query))
        append(to, from, {start, start + page, categories & query.returned});
      start += page;
    }
  }
  return {};
}

}  // namespace dormouse::sys
