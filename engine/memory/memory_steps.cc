// What a puppet is to do for its memory plan, step by step.

#include "engine/memory/memory_plan.h"

#include <linux/prctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <span>
#include <string_view>

#include "base/format.h"
#include "base/pages.h"
#include "engine/memory/vma_kind.h"

namespace dormouse::engine {
namespace {

namespace s = vma_status;
constexpr int kMadvGuardInstall = 102;  // Linux 6.13
constexpr std::uint64_t kEarlyAdvice = (1ull << MADV_HUGEPAGE) | (1ull << MADV_NOHUGEPAGE);

// Of tens of thousands of operations: by hand.
std::string label(std::string_view what, std::uint64_t start, std::uint64_t end) {
  std::array<char, 2 * 16 + 1> range;
  char* at = std::to_chars(range.data(), range.data() + 16, start, 16).ptr;
  *at++ = '-';
  at = std::to_chars(at, range.data() + range.size(), end, 16).ptr;
  std::string text;
  text.reserve(what.size() + 1 + range.size());
  return text.append(what).append(" ").append(range.data(), at);
}

// What a single mmap() may make of it and its neighbours: nothing that acts at once, or on a mapping as a whole.
bool is_plain_anonymous(const pb::vma_entry& vma) {
  constexpr std::uint32_t kPlain = MAP_PRIVATE | MAP_ANONYMOUS;
  return !(vma.status() & ~(s::kRegular | s::kAnonPrivate | s::kHeap)) && (vma.flags() & ~std::uint32_t{MAP_NORESERVE}) == kPlain &&
         !(vma.madv() & kEarlyAdvice);
}

std::uint64_t mmap_flags(const pb::vma_entry& vma) {
  // What a ring held is kept in memory that the ring replaces (engine/ipc/aio_ring.h).
  if (is_aio_ring(vma)) return MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  std::uint64_t flags = vma.flags();
  // Locked later, so that only what comes is locked.
  if ((flags & MAP_LOCKED) && (flags & MAP_NONBLOCK)) flags &= ~std::uint64_t{MAP_LOCKED | MAP_NONBLOCK};
  // Known only to mappings whose other flags are checked, which MAP_FIXED_NOREPLACE does not pass (6.18).
  if (flags & MAP_SYNC) return (flags & ~std::uint64_t{MAP_SHARED}) | MAP_SHARED_VALIDATE | MAP_FIXED;
  return flags | MAP_FIXED_NOREPLACE;
}

}  // namespace

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
  for (std::size_t slice = 0; slice < map_slices(); ++slice) append_map_slice(program, fds, slice);
}

void MemoryPlan::append_map_slice(parasite::Program& program, const MemoryFiles& fds, std::size_t slice) const {
  if (slice == 0) append_map_begin(program, fds);
  const std::size_t last = std::min(sources_.size(), (slice + 1) * kSlice);
  for (std::size_t i = slice * kSlice; i < last;) {
    const std::size_t end = end_of_run(i, last);
    if (end - i == 1) append_one_map(program, i, fds);
    else append_run(program, i, end);
    i = end;
  }
  if (slice + 1 == map_slices()) append_map_end(program);
}

void MemoryPlan::append_map_begin(parasite::Program& program, const MemoryFiles& fds) const {
  for (const AddressRange& range : unmap_)
    program.call(label("unmap", range.start, range.end), SYS_munmap, {range.start, range.end - range.start});
  append_layout(program, fds);
  if (uses_scratch())
    program.call("map scratch memory", SYS_mmap,
                 {scratch_, images::kPageChunkBytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0},
                 parasite::exactly(static_cast<std::int64_t>(scratch_)));
}

void MemoryPlan::append_map_end(parasite::Program& program) const {
  append_vdso_map(program, vdso_);
  for (const AddressRange& range : stale_)
    program.call(label("drop the parent's pages", range.start, range.end), SYS_madvise,
                 {range.start, range.end - range.start, MADV_DONTNEED});
}

// Anonymous memory that stands together and differs in its protection only. What is writable counts as used (overcommit),
// what has never been does not.
std::size_t MemoryPlan::end_of_run(std::size_t i, std::size_t last) const {
  const auto is_plain = [&](std::size_t at) { return sources_[at].kind == Source::Kind::kAnonymous && is_plain_anonymous(vma(at)); };
  const auto writable = [&](std::size_t at) { return protection_for_filling(at) & PROT_WRITE; };
  std::size_t end = i + 1;
  if (!is_plain(i)) return end;
  while (end < last && vma(end).start() == vma(end - 1).end() && vma(end).flags() == vma(i).flags() && is_plain(end) &&
         writable(end) == writable(i))
    ++end;
  return end;
}

// What differs in its protection only when it is filled is parted then: 10,000 mappings of a page each are filled and parted in
// 30 ms, against 36 ms when they are parted first, as the pages of one mapping share what the kernel keeps for them (6.18).
void MemoryPlan::append_run(parasite::Program& program, std::size_t first, std::size_t end) const {
  const std::uint64_t from = vma(first).start(), to = vma(end - 1).end();
  const std::uint32_t protection = protection_for_filling(first);
  program.call(label("map", from, to), SYS_mmap, {from, to - from, protection, mmap_flags(vma(first)), -1, 0},
               parasite::exactly(static_cast<std::int64_t>(from)));
  for (std::size_t i = first; i < end;) {
    std::size_t next = i + 1;
    while (next < end && protection_for_filling(next) == protection_for_filling(i)) ++next;
    const std::uint64_t start = vma(i).start(), bytes = vma(next - 1).end() - start;
    if (protection_for_filling(i) != protection)
      program.call(label("map", start, start + bytes), SYS_mprotect, {start, bytes, protection_for_filling(i)});
    i = next;
  }
}

void MemoryPlan::append_one_map(parasite::Program& program, std::size_t i, const MemoryFiles& fds) const {
  const pb::vma_entry& v = vma(i);
  const std::uint64_t bytes = v.end() - v.start();
  const std::string name = label(v.flags() & MAP_HUGETLB ? "map huge pages (vm.nr_hugepages)" : "map", v.start(), v.end());
  const auto here = parasite::exactly(static_cast<std::int64_t>(v.start()));
  const std::uint64_t prot = protection_for_filling(i);
  const std::uint64_t flags = mmap_flags(v);
  switch (sources_[i].kind) {
    case Source::Kind::kSkip: return;
    case Source::Kind::kInherited:
      if (sources_[i].end != 0)
        program.call(label("lengthen", v.start(), v.end()), SYS_mremap, {v.start(), sources_[i].end - v.start(), bytes, 0}, here);
      if (writable_for_filling(i))
        program.call(label("make writable", v.start(), v.end()), SYS_mprotect, {v.start(), bytes, prot});
      return;
    case Source::Kind::kAnonymous: {
      program.call(name, SYS_mmap, {v.start(), bytes, prot, flags, -1, 0}, here);
      for (std::uint64_t left = v.madv() & kEarlyAdvice; left != 0; left &= left - 1)
        program.call(label("advise", v.start(), v.end()), SYS_madvise, {v.start(), bytes, std::countr_zero(left)});
      return;
    }
    case Source::Kind::kFile:
      program.call(name, SYS_mmap, {v.start(), bytes, prot, flags, fds.files[sources_[i].index], v.pgoff()}, here);
      return;
    case Source::Kind::kShared:
      program.call(name, SYS_mmap,
                   {v.start(), bytes, v.prot(), flags & ~std::uint64_t{MAP_ANONYMOUS},
                    fds.shared[sources_[i].index], v.pgoff()},
                   here);
      return;
  }
}

// Page by page, as reading into them would, faults cost a fifth of a restore (6.18). Where the kernel cannot (Linux 5.14), or will
// not, reading does it after all.
void MemoryPlan::append_populate(parasite::Program& program, const std::vector<Piece>& pieces) {
  constexpr std::uint64_t kWorthACall = 64 << 10;  // bytes
  for (const Piece& piece : pieces)
    if (piece.bytes >= kWorthACall)
      program.call("populate", SYS_madvise, {piece.address, piece.bytes, MADV_POPULATE_WRITE}, parasite::anything());
}

void MemoryPlan::append_fill(parasite::Program& program, const MemoryFiles& fds, std::size_t first,
                             std::size_t last, std::vector<Loaded>& loaded) const {
  for (std::size_t c = first; c < last; ++c) {
    if (chunk_left_out_[c]) continue;
    const Chunk& chunk = chunks_[c];
    // Pieces of a chunk that goes through scratch memory are put in their places one by one afterwards.
    const std::vector<Piece> pieces = chunk_scratch_[c] ? std::vector<Piece>{{scratch_, chunk.bytes}} : joined(chunk.pieces);
    constexpr std::size_t kMostVectors = 1024;  // IOV_MAX
    if (!chunk_scratch_[c]) append_populate(program, pieces);
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
    loaded.push_back({c, program.perform(parasite::OpCode::kHash, "checksum pages", {at, pieces.size()}, parasite::anything())});
    if (!chunk_scratch_[c]) continue;
    std::uint64_t in_scratch = scratch_;
    for (const Piece& piece : chunk.pieces) {
      if (!is_kept(piece.address))
        program.perform(parasite::OpCode::kCopyChanged, label("copy", piece.address, piece.address + piece.bytes),
                        {piece.address, in_scratch, piece.bytes});
      in_scratch += piece.bytes;
    }
  }
}

void MemoryPlan::append_seal(parasite::Program& program) const {
  for (std::size_t slice = 0; slice < map_slices(); ++slice) append_seal_slice(program, slice);
}

void MemoryPlan::append_seal_slice(parasite::Program& program, std::size_t slice) const {
  if (slice == 0) append_vdso_patches(program, vdso_);
  for (std::size_t i = slice * kSlice; i < std::min(sources_.size(), (slice + 1) * kSlice); ++i) {
    const pb::vma_entry& v = vma(i);
    const auto kind = sources_[i].kind;
    if (kind == Source::Kind::kSkip) continue;
    if (writable_for_filling(i) || (kind == Source::Kind::kInherited && sources_[i].protection != v.prot()))
      program.call(label("protect", v.start(), v.end()), SYS_mprotect, {v.start(), v.end() - v.start(), v.prot()});
    append_lock(program, i);
  }
  if (slice + 1 != map_slices()) return;
  if (uses_scratch()) program.call("unmap scratch memory", SYS_munmap, {scratch_, images::kPageChunkBytes});
  if (task_->mm->thp_disabled()) program.call("disable huge pages", SYS_prctl, {PR_SET_THP_DISABLE, 1, 0, 0, 0});
}

// Locks that mmap() did not make: a fork drops them, and it cannot lock pages as they come.
void MemoryPlan::append_lock(parasite::Program& program, std::size_t i) const {
  const pb::vma_entry& v = vma(i);
  if (!(v.flags() & MAP_LOCKED)) return;
  const bool as_they_come = v.flags() & MAP_NONBLOCK;
  if (!as_they_come && sources_[i].kind != Source::Kind::kInherited) return;
  // Locked all the same where pages cannot be loaded, for lack of access or of a file that long: ENOMEM.
  program.call(label("lock", v.start(), v.end()), SYS_mlock2,
               {v.start(), v.end() - v.start(), as_they_come ? MLOCK_ONFAULT : 0}, parasite::ok_or(ENOMEM));
}

// The kernel guards no locked memory, but lets guarded memory be locked.
void MemoryPlan::append_guard(parasite::Program& program, const pb::vma_entry& guard) const {
  const auto install = [&](std::uint64_t start, std::uint64_t end) {
    program.call(label("guard", start, end), SYS_madvise, {start, end - start, kMadvGuardInstall});
  };
  const auto mappings = std::span(task_->mm->vmas().data(), sources_.size());
  auto at = std::ranges::upper_bound(mappings, guard.start(), {}, [](const pb::vma_entry* v) { return v->end(); });
  std::uint64_t from = guard.start();
  for (; at != mappings.end() && (*at)->start() < guard.end(); ++at) {
    if (!((*at)->flags() & MAP_LOCKED)) continue;
    const std::uint64_t start = std::max(guard.start(), (*at)->start()), end = std::min(guard.end(), (*at)->end());
    if (from < start) install(from, start);
    program.call(label("unlock", start, end), SYS_munlock, {start, end - start});
    install(start, end);
    program.call(label("lock", start, end), SYS_mlock2,
                 {start, end - start, (*at)->flags() & MAP_NONBLOCK ? MLOCK_ONFAULT : 0}, parasite::ok_or(ENOMEM));
    from = end;
  }
  if (from < guard.end()) install(from, guard.end());
}

void MemoryPlan::append_late_advice(parasite::Program& program) const {
  for (const pb::vma_entry& v : task_->mm->vmas()) {
    if (is_guard(v)) append_guard(program, v);
    if (v.status() & (s::kVdso | s::kVvar | s::kVsyscall | s::kGuard)) continue;
    for (std::uint64_t left = v.madv() & ~kEarlyAdvice; left != 0; left &= left - 1)
      program.call(label("advise", v.start(), v.end()), SYS_madvise,
                   {v.start(), v.end() - v.start(), std::countr_zero(left)});
  }
}

}  // namespace dormouse::engine
