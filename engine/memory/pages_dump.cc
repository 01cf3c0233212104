#include "engine/memory/pages_dump.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/format.h"
#include "base/pages.h"
#include "base/parallel.h"
#include "engine/memory/common_pages.h"
#include "engine/memory/page_copy.h"
#include "engine/memory/page_runs.h"
#include "engine/memory/vma_kind.h"
#include "kernel/file.h"
#include "kernel/pagemap.h"

namespace dormouse::engine {
namespace {

using namespace page_flags;
// Below this a task is not worth the descriptor it would have to be lent.
constexpr std::uint64_t kByTaskBytes = 4 << 20;
constexpr std::size_t kWorthAThread = 4;  // processes to look for pages in

std::uint64_t bytes_in(const std::vector<PageRun>& runs) {
  std::uint64_t bytes = 0;
  for (const PageRun& run : runs) bytes += run.end - run.start;
  return bytes;
}

std::vector<PageRun> to_be_written(std::vector<PageRun> runs) {
  std::erase_if(runs, [](const PageRun& run) { return run.flags & kInParent; });
  return runs;
}

std::vector<PageRun> assign(const std::vector<abi::PageRegion>& regions, std::span<const pb::vma_entry> vmas,
                            std::span<const PageRange> covered) {
  RunFinder finder(regions, covered);
  std::vector<PageRun> runs;
  for (const pb::vma_entry& vma : vmas) finder.add(vma, runs);
  return runs;
}

// Each process that uses this memory has a page map of its own; one that was born since the parent images has none there.
std::span<const PageRange> covered_for_all(const ParentPages& parent, const Task& task) {
  const auto covered = parent.covered(static_cast<std::uint64_t>(task.ns_pid));
  for (const Task* sharer : task.memory_sharers)
    if (!std::ranges::equal(covered, parent.covered(static_cast<std::uint64_t>(sharer->ns_pid)))) return {};
  return covered;
}

}  // namespace

Result<std::vector<PageRun>> PagesDump::find_runs(const Task& task, const proc::ProcDir& dir,
                                                  const AddressSpace& space) {
  const auto told = [&](Error error) { return std::move(error).owner(task.name()); };
  // Asked first: taking marks ends what was known.
  const ParentPages* parent = history_.parent;
  if (parent && !TRY_OR(history_.tracking.tracked_since(task, parent->generation()), told(std::move(e)))) {
    parent = nullptr;
    context_.log.debug("{}: not tracked since the parent images: all its pages are saved", task.name());
  }
  std::vector<abi::PageRegion> asked;
  const bool known = !parent && !history_.again && space.content();
  if (!known) asked = TRY_OR(history_.tracking.content(task, dir, space.maps(), history_.again), told(std::move(e)));
  const auto& regions = known ? *space.content() : asked;
  const auto covered = parent ? covered_for_all(*parent, task) : std::span<const PageRange>();
  auto runs = assign(regions, space.vmas(), covered);
  const std::scoped_lock lock(counting_);
  for (const pb::vma_entry& vma : space.vmas())
    if (has_private_pages(vma)) counts_.scanned += (vma.end() - vma.start()) / kPage;
  counts_.in_parent += (bytes_in(runs) - bytes_in(to_be_written(runs))) / kPage;
  return runs;
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

struct PagesDump::Content {
  std::uint64_t number = 0;  // of the page file
  std::vector<PageRun> all, to_write;
  // While it is written.
  Fd memory;  // /proc/PID/mem
  std::optional<images::PageFile> file;
  bool is_large() const { return bytes_in(to_write) >= kByTaskBytes; }
};

Result<PagesDump::Content> PagesDump::find_content(Memory& memory, std::uint64_t number) {
  Content content{.number = number, .all = TRY(find_runs(memory.task, memory.dir, memory.space)), .to_write = {}, .memory = {}, .file = {}};
  memory.pages = bytes_in(content.all) / kPage;
  content.to_write = to_be_written(content.all);
  set_apart(content.to_write, memory.changing);
  return content;
}

Result<> PagesDump::begin_content(Memory& memory, Content& content) {
  const Task& task = memory.task;
  TRY(write_pagemap(images::kPagemap, static_cast<std::uint64_t>(task.ns_pid), content.number, content.all));
  // Tasks in one address space: each has a page map, all of one page file.
  for (const Task* other : task.memory_sharers)
    TRY(write_pagemap(images::kPagemap, static_cast<std::uint64_t>(other->ns_pid), content.number, content.all));
  content.file = memory.early ? std::move(memory.early->file) : TRY(context_.out.create_pages(content.number));
  content.memory = TRY_OR(memory.dir.open_at("mem", O_RDONLY), std::move(e).owner(task.name()));
  return {};
}

Result<> PagesDump::finish_content(const Content& content, std::vector<std::uint64_t> sums) {
  const std::uint64_t bytes = bytes_in(content.to_write);
  {
    const std::scoped_lock lock(counting_);
    counts_.written += bytes / kPage;
  }
  return context_.out.finish_pages(*content.file, bytes, std::move(sums));
}

Result<> PagesDump::save_content(Memory& memory, Content& content, parasite::Keeper* keeper) {
  const std::vector<Chunk> chunks = cut_into_chunks(content.to_write);
  if (memory.early && !is_beginning(memory.early->chunks, chunks)) memory.early.reset();
  TRY(begin_content(memory, content));
  std::vector<std::uint64_t> sums;
  if (memory.early) {
    sums = std::move(memory.early->sums);
    context_.log.debug("{}: {} of {} chunks of pages were copied while its mappings were read", memory.task.name(), sums.size(), chunks.size());
  }
  const int source = content.memory.get();
  TRY_OR(keeper ? copy_by_task(*keeper, memory.held, memory.task, source, chunks, *content.file, sums)
                : copy_by_engine(source, chunks, *content.file, sums),
         std::move(e).owner(memory.task.name()));
  return finish_content(content, std::move(sums));
}

Result<> PagesDump::save_common(std::span<Memory> all, std::vector<std::optional<Content>>& large) {
  std::vector<std::size_t> indices;
  std::vector<Fd> pagemaps;
  std::vector<PageSource> sources;
  for (std::size_t i = 0; i < large.size(); ++i) {
    if (!large[i]) continue;
    indices.push_back(i);
    pagemaps.push_back(TRY_OR(all[i].dir.open_at("pagemap", O_RDONLY), std::move(e).owner(all[i].task.name())));
    sources.push_back({.name = all[i].task.name(), .memory = -1, .pagemap = pagemaps.back().get(), .runs = large[i]->to_write, .to = nullptr});
  }
  for (const auto& members : find_common(sources)) {
    std::vector<PageSource> group;
    for (const std::size_t member : members) {
      Content& content = *large[indices[member]];
      TRY(begin_content(all[indices[member]], content));
      sources[member].memory = content.memory.get();
      sources[member].to = &*content.file;
      group.push_back(sources[member]);
    }
    auto sums = TRY(copy_common(group));
    for (std::size_t i = 0; i < members.size(); ++i) {
      auto& content = large[indices[members[i]]];
      TRY(finish_content(*content, std::move(sums[i])));
      content.reset();
    }
  }
  return {};
}

Result<> PagesDump::save(parasite::Keeper& keeper, std::span<Memory> all) {
  const std::uint64_t first = std::exchange(next_pages_number_, next_pages_number_ + all.size());
  std::vector<std::optional<Content>> large(all.size());
  TRY(in_parallel(all.size(), [&](std::size_t i) -> Result<> {
    Content content = TRY(find_content(all[i], first + i));
    if (!content.is_large()) return save_content(all[i], content, nullptr);
    large[i] = std::move(content);
    return {};
  }, kWorthAThread));
  TRY(save_common(all, large));
  // A program of a task's is the business of the thread that traces it.
  for (std::size_t i = 0; i < all.size(); ++i)
    if (large[i]) TRY(save_content(all[i], *large[i], &keeper));
  return {};
}

Result<> PagesDump::save_behind(const Task& task, int memory, const std::vector<PageRun>& runs) {
  const std::uint64_t number = next_pages_number_++;
  const images::PageFile file = TRY(context_.out.create_pages(number));
  CopiedPages copied = TRY_OR(copy_behind(memory, to_be_written(runs), file), std::move(e).owner(task.name()));
  const std::uint64_t bytes = bytes_in(copied.runs);
  std::vector<PageRun> all = std::move(copied.runs);
  for (const PageRun& run : runs)
    if (run.flags & kInParent) all.push_back(run);
  std::ranges::sort(all, {}, &PageRun::start);
  TRY(write_pagemap(images::kPagemap, static_cast<std::uint64_t>(task.ns_pid), number, all));
  for (const Task* other : task.memory_sharers)
    TRY(write_pagemap(images::kPagemap, static_cast<std::uint64_t>(other->ns_pid), number, all));
  counts_.written += bytes / kPage;
  return context_.out.finish_pages(file, bytes, std::move(copied.sums));
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

Result<> PagesDump::save_segment(const SavedSegment& segment) {
  MemoryObject object;
  object.shmid = segment.entry.desc().id();
  object.file = TRY(sys::duplicate(segment.file.get()));
  object.size_bytes = static_cast<std::uint64_t>(TRY(sys::fstat(segment.file.get())).st_size);
  object.page_bytes = page_bytes_of(segment.entry.hugetlb_flag() == 0 ? 0 : segment.entry.hugetlb_flag() | MAP_HUGETLB);
  TRY_OR(save_object(object), std::move(e).owner(segment_name(segment.entry.desc())));
  return {};
}

}  // namespace dormouse::engine
