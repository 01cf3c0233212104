#include "engine/memory/inheritance.h"

#include <sys/mman.h>

#include <algorithm>

#include "engine/memory/vma_kind.h"

namespace dormouse::engine {
namespace {

namespace s = vma_status;

constexpr std::uint32_t kLocks = MAP_LOCKED | MAP_NONBLOCK;
// Given before there are pages, and not to be taken back.
constexpr std::uint64_t kEarlyAdvice = (1ull << MADV_HUGEPAGE) | (1ull << MADV_NOHUGEPAGE);
constexpr std::uint64_t kNotInherited = (1ull << MADV_DONTFORK) | (1ull << MADV_WIPEONFORK);

bool may_inherit(const pb::vma_entry& vma) {
  return has_private_pages(vma) && !(vma.status() & (s::kVdso | s::kAioRing)) && !(vma.madv() & kNotInherited);
}

// The child's mapping is what is left of the parent's: after munmap() or mprotect() of a part, all of it or a piece. That it
// has grown since (mremap()) it can do again.
bool is_piece_of(const pb::vma_entry& child, const pb::vma_entry& parent) {
  const bool has_offset = parent.status() & (s::kFilePrivate | s::kFileShared);
  const bool may_grow = !(parent.flags() & (MAP_GROWSDOWN | MAP_HUGETLB));
  const bool in_it = child.end() <= parent.end() || (may_grow && child.start() < parent.end());
  return parent.start() <= child.start() && in_it && child.status() == parent.status() &&
         ((child.flags() ^ parent.flags()) & ~kLocks) == 0 && child.shmid() == parent.shmid() &&
         (!has_offset || child.pgoff() - parent.pgoff() == child.start() - parent.start()) &&
         ((child.madv() ^ parent.madv()) & kEarlyAdvice) == 0;
}

}  // namespace

std::vector<const pb::vma_entry*> inherited_mappings(const pb::mm_entry& parent, const pb::mm_entry& child) {
  std::vector<const pb::vma_entry*> found;
  found.reserve(static_cast<std::size_t>(child.vmas_size()));
  // Both are in ascending order, but for the guards behind.
  auto at = parent.vmas().begin();
  for (const pb::vma_entry& vma : child.vmas()) {
    const pb::vma_entry* origin = nullptr;
    if (may_inherit(vma)) {
      while (at != parent.vmas().end() && !is_guard(*at) && at->end() <= vma.start()) ++at;
      if (at != parent.vmas().end() && may_inherit(*at) && is_piece_of(vma, *at)) origin = &*at;
    }
    found.push_back(origin);
  }
  return found;
}

std::vector<AddressRange> foreign_mappings(const pb::mm_entry& parent, const pb::mm_entry& child,
                                           const std::vector<const pb::vma_entry*>& inherited) {
  std::vector<AddressRange> foreign;
  const auto add = [&](std::uint64_t start, std::uint64_t end) {
    if (start >= end) return;
    if (!foreign.empty() && foreign.back().end == start) foreign.back().end = end;
    else foreign.push_back({start, end});
  };
  std::size_t i = 0;
  for (const pb::vma_entry& vma : parent.vmas()) {
    if ((vma.status() & s::kVsyscall) || is_guard(vma)) continue;
    std::uint64_t start = vma.start();
    for (; i < inherited.size() && (inherited[i] == nullptr || inherited[i] == &vma); ++i) {
      if (inherited[i] == nullptr) continue;
      const pb::vma_entry& piece = child.vmas(static_cast<int>(i));
      add(start, piece.start());
      start = piece.end();
    }
    add(start, vma.end());
  }
  return foreign;
}

std::vector<AddressRange> stale_pages(const std::vector<AddressRange>& inherited, const std::vector<PageRun>& parent,
                               const std::vector<PageRun>& child) {
  std::vector<AddressRange> stale;
  auto run = parent.begin();
  auto own = child.begin();
  for (const AddressRange& mapping : inherited) {
    while (run != parent.end() && run->end <= mapping.start) ++run;
    for (auto at = run; at != parent.end() && at->start < mapping.end; ++at) {
      std::uint64_t start = std::max(at->start, mapping.start);
      const std::uint64_t end = std::min(at->end, mapping.end);
      while (own != child.end() && own->end <= start) ++own;
      for (auto kept = own; start < end; ++kept) {
        const bool more = kept != child.end() && kept->start < end;
        const std::uint64_t until = more ? kept->start : end;
        if (until > start) stale.push_back({start, until});
        if (!more) break;
        start = std::max(start, kept->end);
      }
    }
  }
  return stale;
}

}  // namespace dormouse::engine
