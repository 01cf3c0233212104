#include "engine/memory/memory_plan.h"

#include <linux/prctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

#include "base/format.h"
#include "engine/memory/vma_kind.h"

namespace dormouse::engine {
namespace {

namespace s = vma_status;
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kUserEnd = 0x7fff'ffff'f000, kUserEnd32 = 0xffff'e000;

std::string label(const char* what, std::uint64_t start, std::uint64_t end) {
  return format("{} {:x}-{:x}", what, start, end);
}

bool same_private_mapping(const pb::vma_entry& a, const pb::vma_entry& b) {
  return a.start() == b.start() && a.end() == b.end() && a.status() == b.status() && a.flags() == b.flags() &&
         a.pgoff() == b.pgoff() && a.shmid() == b.shmid();
}

const pb::vma_entry* find_same(const ImageTask& in, const pb::vma_entry& vma) {
  for (const pb::vma_entry& other : in.mm->vmas())
    if (same_private_mapping(vma, other)) return &other;
  return nullptr;
}

bool may_inherit(const pb::vma_entry& vma) {
  constexpr std::uint64_t kNotInherited = (1ull << MADV_DONTFORK) | (1ull << MADV_WIPEONFORK);
  return has_private_pages(vma) && !(vma.status() & (s::kVdso | s::kAioRing)) && !(vma.madv() & kNotInherited);
}

}  // namespace

bool inherits_memory(const ImageTask& parent, const ImageTask& child) {
  // Address space randomisation gives every executed program its own stack and heap.
  return parent.mm && child.mm && parent.mm->mm_start_stack() == child.mm->mm_start_stack() &&
         parent.mm->mm_start_brk() == child.mm->mm_start_brk() &&
         parent.mm->mm_arg_start() == child.mm->mm_arg_start();
}

Result<std::uint64_t> find_common_hole(const Image& image, std::span<const pb::vma_entry> also_taken,
                                       std::uint64_t bytes) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> taken;
  for (const ImageTask& task : image.tasks) {
    if (!task.mm) continue;
    for (const pb::vma_entry& vma : task.mm->vmas()) taken.emplace_back(vma.start(), vma.end());
    taken.emplace_back(task.mm->mm_start_brk(), task.mm->mm_brk());
  }
  for (const pb::vma_entry& vma : also_taken) taken.emplace_back(vma.start(), vma.end());
  std::sort(taken.begin(), taken.end());
  constexpr std::uint64_t kLowest = 1 << 20, kAlign = 2 << 20;
  const bool low = std::ranges::any_of(image.tasks, &ImageTask::needs_32_bit_calls);
  const std::uint64_t highest = low ? kUserEnd32 : kUserEnd;
  std::uint64_t previous = kLowest, best_start = 0, best_size = 0;
  taken.emplace_back(highest, highest);
  for (const auto& [start, end] : taken) {
    if (const std::uint64_t until = std::min(start, highest); until > previous && until - previous > best_size) {
      best_start = previous;
      best_size = until - previous;
    }
    previous = std::max(previous, end);
  }
  if (best_size < bytes + 2 * kAlign)
    return fail(Error::unsupported("the tasks' mappings leave no common room for the interpreter"));
  return (best_start + (best_size - bytes) / 2) / kAlign * kAlign;
}

Result<MemoryPlan> MemoryPlan::make(const ImageTask& task, VdsoPlan vdso, const Origin& inherited_from,
                                    std::uint64_t scratch) {
  MemoryPlan plan;
  plan.task_ = &task;
  plan.vdso_ = std::move(vdso);
  plan.scratch_ = scratch;
  plan.choose_sources(inherited_from);
  plan.has_pages_.resize(plan.sources_.size());

  // Which mapping each run belongs to; both are in ascending order.
  std::size_t at = 0;
  std::vector<PageRun> pieces;
  std::vector<bool> through_scratch;
  for (const PageRun& run : task.pages) {
    for (std::uint64_t start = run.start; start < run.end;) {
      while (at < plan.sources_.size() && plan.vma(at).end() <= start) ++at;
      if (at == plan.sources_.size() || plan.vma(at).start() > start || !has_private_pages(plan.vma(at)))
        return fail(Error::corrupt(format("saved pages at {:#x} belong to no private mapping", start))
                        .object(format("task {}", task.tree.pid())).owner("the image"));
      const std::uint64_t end = std::min<std::uint64_t>(run.end, plan.vma(at).end());
      plan.has_pages_[at] = true;
      // `readable` says here: goes straight to its place.
      const auto kind = plan.sources_[at].kind;
      pieces.push_back({start, end, run.flags, kind != Source::Kind::kInherited && kind != Source::Kind::kSkip, run.file,
                        run.offset + (start - run.start)});
      plan.bytes_ += end - start;
      start = end;
    }
  }
  plan.chunks_ = cut_in_place(std::move(pieces));
  for (const Chunk& chunk : plan.chunks_)
    if (plan.page_files_.empty() || plan.page_files_.back() != chunk.file) plan.page_files_.push_back(chunk.file);
  for (const Chunk& chunk : plan.chunks_) plan.chunk_scratch_.push_back(!chunk.readable);
  if (inherited_from.task) plan.find_stale_pages(*inherited_from.task);
  return plan;
}

void MemoryPlan::choose_sources(const Origin& origin) {
  const ImageTask* from = origin.task;
  const auto slot_of = [](auto& list, auto id) {
    const auto found = std::find(list.begin(), list.end(), id);
    if (found != list.end()) return static_cast<std::size_t>(found - list.begin());
    list.push_back(id);
    return list.size() - 1;
  };
  std::vector<const pb::vma_entry*> kept;
  for (const pb::vma_entry& vma : task_->mm->vmas()) {
    Source source;
    const pb::vma_entry* same = from && may_inherit(vma) ? find_same(*from, vma) : nullptr;
    if (vma.status() & s::kVsyscall) source.kind = Source::Kind::kSkip;
    // Of another kernel: the code is ordinary memory, and where its data were are zeros. What a thread may
    // still run of it then takes its clock for one that needs a system call (VDSO_CLOCKMODE_NONE is 0).
    else if (vma.status() & (s::kVdso | s::kVvar))
      source.kind = vdso_.proxied ? Source::Kind::kAnonymous : Source::Kind::kSkip;
    else if (same) source.kind = Source::Kind::kInherited;
    else if (is_segment(vma)) source.kind = Source::Kind::kSkip;  // see engine/ipc/attachments.h
    else if (is_shared_anonymous(vma)) source = {Source::Kind::kShared, slot_of(shared_, vma.shmid())};
    else if (is_file_mapping(vma))
      source = {Source::Kind::kFile, slot_of(files_, static_cast<std::uint32_t>(vma.shmid()))};
    if (same) kept.push_back(same);
    sources_.push_back(source);
  }
  if (!from) return;
  for (const pb::vma_entry& vma : from->mm->vmas())
    if (!(vma.status() & s::kVsyscall) && std::find(kept.begin(), kept.end(), &vma) == kept.end())
      unmap_.push_back({vma.start(), vma.end()});
  if (origin.vdso->proxied)
    unmap_.push_back({origin.vdso->map_at, origin.vdso->map_at + origin.vdso->map_bytes});
}

// Pages that the parent has in an inherited mapping and the child has not: dropped, or they would be
// the parent's in the child as well.
void MemoryPlan::find_stale_pages(const ImageTask& from) {
  const std::vector<PageRun>& own = task_->pages;
  const auto drop = [&](std::uint64_t start, std::uint64_t end) {
    for (const PageRun& run : own) {
      if (run.end <= start) continue;
      if (run.start >= end) break;
      if (run.start > start) stale_.push_back({start, run.start});
      start = std::max(start, run.end);
      if (start >= end) return;
    }
    if (start < end) stale_.push_back({start, end});
  };
  for (const PageRun& run : from.pages) {
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      if (sources_[i].kind != Source::Kind::kInherited) continue;
      const std::uint64_t start = std::max<std::uint64_t>(run.start, vma(i).start());
      const std::uint64_t end = std::min<std::uint64_t>(run.end, vma(i).end());
      if (start < end) drop(start, end);
    }
  }
}

bool MemoryPlan::writable_for_filling(std::size_t i) const {
  return has_pages_[i] && (vma(i).prot() & (PROT_READ | PROT_WRITE)) != (PROT_READ | PROT_WRITE);
}

// While nothing new is mapped: the kernel refuses to replace an executable that is (EBUSY), be it only
// because two tasks run the same one.
void MemoryPlan::append_layout(parasite::Program& program, const MemoryFiles& fds) const {
  const pb::mm_entry& mm = *task_->mm;
  std::vector<std::uint64_t> auxv(mm.mm_saved_auxv().begin(), mm.mm_saved_auxv().end());
  auxv.insert(auxv.end(), {0, 0});
  const auto auxv_at = program.data(std::as_bytes(std::span(auxv)));
  const prctl_mm_map map{
      mm.mm_start_code(), mm.mm_end_code(), mm.mm_start_data(), mm.mm_end_data(), mm.mm_start_brk(), mm.mm_brk(),
      mm.mm_start_stack(), mm.mm_arg_start(), mm.mm_arg_end(), mm.mm_env_start(), mm.mm_env_end(), nullptr,
      static_cast<std::uint32_t>(auxv.size() * sizeof auxv[0]), static_cast<std::uint32_t>(fds.executable)};
  const auto map_at = program.value(map);
  program.point(map_at + offsetof(prctl_mm_map, auxv), auxv_at);
  program.call("set the layout of the address space", SYS_prctl, {PR_SET_MM, PR_SET_MM_MAP, map_at, sizeof map, 0});
}

void MemoryPlan::append_map(parasite::Program& program, const MemoryFiles& fds) const {
  for (const AddressRange& range : unmap_)
    program.call(label("unmap", range.start, range.end), SYS_munmap, {range.start, range.end - range.start});
  append_layout(program, fds);
  if (std::find(chunk_scratch_.begin(), chunk_scratch_.end(), true) != chunk_scratch_.end())
    program.call("map scratch memory", SYS_mmap,
                 {scratch_, images::kPageChunkBytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0},
                 parasite::exactly(static_cast<std::int64_t>(scratch_)));
  for (std::size_t i = 0; i < sources_.size(); ++i) append_one_map(program, i, fds);
  append_vdso_map(program, vdso_);
  for (const AddressRange& range : stale_)
    program.call(label("drop the parent's pages", range.start, range.end), SYS_madvise,
                 {range.start, range.end - range.start, MADV_DONTNEED});
}

void MemoryPlan::append_one_map(parasite::Program& program, std::size_t i, const MemoryFiles& fds) const {
  const pb::vma_entry& v = vma(i);
  const std::uint64_t bytes = v.end() - v.start();
  const std::string name = label("map", v.start(), v.end());
  const auto here = parasite::exactly(static_cast<std::int64_t>(v.start()));
  const std::uint64_t prot = has_pages_[i] ? v.prot() | PROT_READ | PROT_WRITE : v.prot();
  // What a ring held is kept in memory that the ring replaces (engine/ipc/aio_ring.h).
  const std::uint64_t flags = (is_aio_ring(v) ? MAP_PRIVATE | MAP_ANONYMOUS : v.flags()) | MAP_FIXED_NOREPLACE;
  switch (sources_[i].kind) {
    case Source::Kind::kSkip: return;
    case Source::Kind::kInherited:
      if (writable_for_filling(i))
        program.call(label("make writable", v.start(), v.end()), SYS_mprotect, {v.start(), bytes, prot});
      return;
    case Source::Kind::kAnonymous: {
      program.call(name, SYS_mmap, {v.start(), bytes, prot, flags, -1, 0}, here);
      constexpr int kEarly[] = {MADV_HUGEPAGE, MADV_NOHUGEPAGE};
      for (const int advice : kEarly)
        if (v.madv() >> advice & 1)
          program.call(label("advise", v.start(), v.end()), SYS_madvise, {v.start(), bytes, advice});
      return;
    }
    case Source::Kind::kFile:
      program.call(name, SYS_mmap, {v.start(), bytes, prot, flags, fds.files[sources_[i].index], v.pgoff()}, here);
      return;
    case Source::Kind::kShared:
      program.call(name, SYS_mmap,
                   {v.start(), bytes, v.prot(), (flags & ~std::uint64_t{MAP_ANONYMOUS}),
                    fds.shared[sources_[i].index], v.pgoff()},
                   here);
      return;
  }
}

void MemoryPlan::append_fill(parasite::Program& program, const MemoryFiles& fds, std::size_t first,
                             std::size_t last, std::vector<parasite::OpRef>& checksums) const {
  for (std::size_t c = first; c < last; ++c) {
    const Chunk& chunk = chunks_[c];
    // Pieces of a chunk that goes through scratch memory are put in their places one by one afterwards.
    std::vector<Piece> pieces = chunk.pieces;
    if (chunk_scratch_[c]) pieces = {{scratch_, chunk.bytes}};
    constexpr std::size_t kMostVectors = 1024;  // IOV_MAX
    const auto at = program.data(std::as_bytes(std::span(pieces)));
    std::uint64_t offset = chunk.offset;
    const auto file = std::ranges::lower_bound(page_files_, chunk.file) - page_files_.begin();
    for (std::size_t from = 0; from < pieces.size(); from += kMostVectors) {
      const std::size_t count = std::min(kMostVectors, pieces.size() - from);
      std::uint64_t bytes = 0;
      for (std::size_t k = from; k < from + count; ++k) bytes += pieces[k].bytes;
      program.call(format("load {} bytes of pages", bytes), SYS_preadv,
                   {fds.pages[static_cast<std::size_t>(file)], at + static_cast<std::uint32_t>(from * sizeof(Piece)), count, offset},
                   parasite::exactly(static_cast<std::int64_t>(bytes)));
      offset += bytes;
    }
    checksums.push_back(program.perform(parasite::OpCode::kHash, "checksum pages", {at, pieces.size()},
                                        parasite::anything()));
    if (!chunk_scratch_[c]) continue;
    std::uint64_t in_scratch = scratch_;
    for (const Piece& piece : chunk.pieces) {
      const bool is_there = std::any_of(sources_.begin(), sources_.end(), [&, i = std::size_t{0}](const Source& source) mutable {
        const pb::vma_entry& v = vma(i++);
        return source.kind == Source::Kind::kSkip && piece.address >= v.start() && piece.address < v.end();
      });
      if (!is_there)
        program.perform(parasite::OpCode::kCopyChanged, label("copy", piece.address, piece.address + piece.bytes),
                        {piece.address, in_scratch, piece.bytes});
      in_scratch += piece.bytes;
    }
  }
}

void MemoryPlan::append_seal(parasite::Program& program) const {
  append_vdso_patches(program, vdso_);
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const pb::vma_entry& v = vma(i);
    const bool skip = sources_[i].kind == Source::Kind::kSkip;
    // Inherited mappings may have had another protection in the parent.
    if (!skip && (writable_for_filling(i) || sources_[i].kind == Source::Kind::kInherited))
      program.call(label("protect", v.start(), v.end()), SYS_mprotect, {v.start(), v.end() - v.start(), v.prot()});
  }
  if (std::find(chunk_scratch_.begin(), chunk_scratch_.end(), true) != chunk_scratch_.end())
    program.call("unmap scratch memory", SYS_munmap, {scratch_, images::kPageChunkBytes});
  if (task_->mm->thp_disabled()) program.call("disable huge pages", SYS_prctl, {PR_SET_THP_DISABLE, 1, 0, 0, 0});
}

void MemoryPlan::append_late_advice(parasite::Program& program) const {
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const pb::vma_entry& v = vma(i);
    if (v.status() & (s::kVdso | s::kVvar | s::kVsyscall)) continue;
    for (int advice = 0; advice < 64; ++advice) {
      if (!(v.madv() >> advice & 1) || advice == MADV_HUGEPAGE || advice == MADV_NOHUGEPAGE) continue;
      program.call(label("advise", v.start(), v.end()), SYS_madvise, {v.start(), v.end() - v.start(), advice});
    }
  }
}

}  // namespace dormouse::engine
