#include "engine/memory/pages_dump.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>

#include "base/format.h"
#include "engine/memory/page_copy.h"
#include "engine/memory/vma_kind.h"
#include "kernel/file.h"
#include "kernel/pagemap.h"

namespace dormouse::engine {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kUserEnd = 0x7fff'ffff'f000;
// pagemap_entry.flags
constexpr std::uint32_t kLazy = 2, kPresent = 4;
// Below this a task is not worth the descriptor it would have to be lent.
constexpr std::uint64_t kByTaskBytes = 4 << 20;

// Private pages with content of their own: not the file's, not the zero page.
constexpr sys::PageQuery kOwnPages{
    .all_of = abi::kPageIsFile | abi::kPageIsPfnzero,
    .any_of = abi::kPageIsPresent | abi::kPageIsSwapped,
    .inverted = abi::kPageIsFile | abi::kPageIsPfnzero,
    .returned = 0,
};

sys::PageQuery own_pages(const sys::Features& features) {
  sys::PageQuery query = kOwnPages;
  if (features.has(sys::Feature::kPagemapScanGuard)) {
    query.all_of |= abi::kPageIsGuard;  // guards look like swapped pages
    query.inverted |= abi::kPageIsGuard;
  }
  return query;
}

std::uint64_t bytes_in(const std::vector<PageRun>& runs) {
  std::uint64_t bytes = 0;
  for (const PageRun& run : runs) bytes += run.end - run.start;
  return bytes;
}

std::uint32_t page_flags(const pb::vma_entry& vma) {
  const bool plain = (vma.status() & vma_status::kAnonPrivate) && !(vma.status() & vma_status::kVdso) &&
                     !(vma.flags() & (MAP_LOCKED | MAP_HUGETLB));
  return plain ? kPresent | kLazy : kPresent;
}

// Cuts `regions` at the mappings' borders and leaves out what is not private memory.
std::vector<PageRun> assign(const std::vector<abi::PageRegion>& regions, std::span<const pb::vma_entry> vmas) {
  std::vector<PageRun> runs;
  auto region = regions.begin();
  for (const pb::vma_entry& vma : vmas) {
    if (!has_private_pages(vma)) continue;
    const bool readable = vma.prot() & PROT_READ;
    // The code the kernel gave the task is saved whole: another kernel's may differ.
    if (vma.status() & vma_status::kVdso) {
      runs.push_back({vma.start(), vma.end(), page_flags(vma), readable});
      continue;
    }
    while (region != regions.end() && region->end <= vma.start()) ++region;
    for (auto at = region; at != regions.end() && at->start < vma.end(); ++at)
      runs.push_back({std::max<std::uint64_t>(at->start, vma.start()),
                      std::min<std::uint64_t>(at->end, vma.end()), page_flags(vma), readable});
  }
  return runs;
}

}  // namespace

Result<std::vector<PageRun>> PagesDump::find_runs(const proc::ProcDir& dir, const AddressSpace& space) {
  auto pagemap = TRY(sys::Pagemap::open(dir, features_.has(sys::Feature::kPagemapScan)));
  std::vector<abi::PageRegion> regions;
  if (features_.has(sys::Feature::kPagemapScan)) {
    regions = TRY(pagemap.ranges(0, kUserEnd, own_pages(features_)));
  } else {
    for (const pb::vma_entry& vma : space.vmas())
      if (has_private_pages(vma)) TRY(pagemap.append_ranges(vma.start(), vma.end(), own_pages(features_), regions));
  }
  for (const pb::vma_entry& vma : space.vmas())
    if (has_private_pages(vma)) counts_.scanned += (vma.end() - vma.start()) / kPage;
  return assign(regions, space.vmas());
}

Result<> PagesDump::write_pagemap(const images::ImageType& type, std::uint64_t number,
                                  std::uint64_t pages_number, const std::vector<PageRun>& runs) {
  auto writer = TRY(context_.out.create(type, number));
  pb::pagemap_head head;
  head.set_pages_id(static_cast<std::uint32_t>(pages_number));
  TRY(writer.append(head));
  for (std::size_t i = 0; i < runs.size();) {
    std::uint64_t end = runs[i].end;
    std::size_t next = i + 1;
    while (next < runs.size() && runs[next].start == end && runs[next].flags == runs[i].flags)
      end = runs[next++].end;
    pb::pagemap_entry entry;
    entry.set_vaddr(runs[i].start);
    entry.set_compat_nr_pages(0);
    entry.set_flags(runs[i].flags);
    entry.set_nr_pages((end - runs[i].start) / kPage);
    TRY(writer.append(entry));
    i = next;
  }
  return writer.finish();
}

Result<> PagesDump::save(const Task& task, const proc::ProcDir& dir, const AddressSpace& space,
                         parasite::Keeper* keeper, parasite::HeldProcess* held) {
  const auto runs = TRY_OR(find_runs(dir, space), std::move(e).owner(task.name()));
  const std::uint64_t number = next_pages_number_++;
  TRY(write_pagemap(images::kPagemap, task.ns_pid, number, runs));
  const images::PageFile file = TRY(context_.out.create_pages(number));
  const Fd memory = TRY_OR(dir.open_at("mem", O_RDONLY), std::move(e).owner(task.name()));
  const std::uint64_t bytes = bytes_in(runs);
  auto sums = held && bytes >= kByTaskBytes ? copy_by_task(*keeper, *held, task, memory.get(), runs, file)
                                            : copy_by_engine(memory.get(), runs, file);
  if (!sums) return fail(std::move(sums).error().owner(task.name()));
  counts_.written += bytes / kPage;
  return context_.out.finish_pages(file, bytes, std::move(*sums));
}

Result<> PagesDump::save_shared(const Task& task, const proc::ProcDir& dir, const AddressSpace& space) {
  for (const pb::vma_entry& vma : space.vmas()) {
    if (!is_shared_anonymous(vma) || !saved_objects_.insert(vma.shmid()).second) continue;
    MemoryObject object;
    object.shmid = vma.shmid();
    object.file = TRY_OR(dir.open_at(format("map_files/{:x}-{:x}", vma.start(), vma.end()), O_RDONLY),
                         std::move(e).object("shared memory").owner(task.name()));
    object.size_bytes = static_cast<std::uint64_t>(TRY(sys::fstat(object.file.get())).st_size);
    object.page_bytes = page_bytes_of(vma.flags());
    TRY_OR(save_object(object), std::move(e).owner(task.name()));
  }
  return {};
}

Result<> PagesDump::save_object(const MemoryObject& object) {
  // The object's own holes, which are the same for all who map it.
  const auto runs = TRY(find_data(object));
  const std::uint64_t number = next_pages_number_++;
  TRY(write_pagemap(images::kShmemPagemap, object.shmid, number, runs));
  const images::PageFile file = TRY(context_.out.create_pages(number));
  auto sums = TRY(copy_object(object, runs, file));
  const std::uint64_t bytes = bytes_in(runs);
  counts_.shared_scanned += (object.size_bytes + kPage - 1) / kPage;
  counts_.shared_written += bytes / kPage;
  return context_.out.finish_pages(file, bytes, std::move(sums));
}

}  // namespace dormouse::engine
