#include "engine/memory/page_runs.h"

#include <sys/mman.h>

#include <algorithm>

#include "engine/memory/vma_kind.h"

namespace dormouse::engine {
namespace {

using namespace page_flags;

std::uint32_t page_flags_of(const pb::vma_entry& vma) {
  const bool plain = (vma.status() & vma_status::kAnonPrivate) && !(vma.status() & vma_status::kVdso) &&
                     !(vma.flags() & (MAP_LOCKED | MAP_HUGETLB));
  return plain ? kPresent | kLazy : kPresent;
}

}  // namespace

void RunFinder::add(const pb::vma_entry& vma, std::vector<PageRun>& runs) {
  if (!has_private_pages(vma)) return;
  const bool readable = vma.prot() & PROT_READ;
  // The code the kernel gave the task is saved whole: another kernel's may differ.
  // A ring is short, and the kernel writes into it without leaving a trace.
  if (vma.status() & (vma_status::kVdso | vma_status::kAioRing)) {
    runs.push_back({vma.start(), vma.end(), page_flags_of(vma), readable});
    return;
  }
  while (region_ != end_ && region_->end <= vma.start()) ++region_;
  for (auto at = region_; at != end_ && at->start < vma.end(); ++at) {
    const PageRun run{std::max<std::uint64_t>(at->start, vma.start()), std::min<std::uint64_t>(at->end, vma.end()),
                      page_flags_of(vma), readable};
    append_uncovered(run, at->categories & abi::kPageIsWritten ? std::span<const PageRange>() : covered_, runs);
  }
}

}  // namespace dormouse::engine
