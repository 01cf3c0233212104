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

bool same_private_mapping(const pb::vma_entry& a, const pb::vma_entry& b) {
  return a.start() == b.start() && a.end() == b.end() && a.status() == b.status() &&
         ((a.flags() ^ b.flags()) & ~kLocks) == 0 && a.pgoff() == b.pgoff() && a.shmid() == b.shmid() &&
         ((a.madv() ^ b.madv()) & kEarlyAdvice) == 0;
}

}  // namespace

std::vector<const pb::vma_entry*> inherited_mappings(const pb::mm_entry& parent, const pb::mm_entry& child) {
  std::vector<const pb::vma_entry*> found;
  found.reserve(static_cast<std::size_t>(child.vmas_size()));
  // Both are in ascending order, but for the guards behind.
  auto at = parent.vmas().begin();
  for (const pb::vma_entry& vma : child.vmas()) {
    const pb::vma_entry* same = nullptr;
    if (may_inherit(vma)) {
      while (at != parent.vmas().end() && !is_guard(*at) && at->start() < vma.start()) ++at;
      if (at != parent.vmas().end() && may_inherit(*at) && same_private_mapping(vma, *at)) same = &*at;
    }
    found.push_back(same);
  }
  return found;
}

std::vector<AddressRange> foreign_mappings(const pb::mm_entry& parent,
                                    const std::vector<const pb::vma_entry*>& inherited) {
  std::vector<AddressRange> foreign;
  auto at = inherited.begin();
  for (const pb::vma_entry& vma : parent.vmas()) {
    if ((vma.status() & s::kVsyscall) || is_guard(vma)) continue;
    while (at != inherited.end() && (*at == nullptr || (*at)->start() < vma.start())) ++at;
    if (at != inherited.end() && *at == &vma) continue;
    if (!foreign.empty() && foreign.back().end == vma.start())
      foreign.back().end = vma.end();
    else
      foreign.push_back({vma.start(), vma.end()});
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
