#include "engine/memory/memory_plan.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <span>
#include <unordered_map>

#include "base/format.h"
#include "base/pages.h"
#include "engine/memory/vma_kind.h"

namespace dormouse::engine {
namespace {

namespace s = vma_status;
constexpr std::uint64_t kUserEnd32 = 0xffff'e000;

// Numbers in the order of first use.
template <class T>
class Slots {
 public:
  explicit Slots(std::vector<T>& list) : list_(list) {}
  std::size_t of(const T& item) {
    const auto [found, is_new] = slots_.try_emplace(item, list_.size());
    if (is_new) list_.push_back(item);
    return found->second;
  }

 private:
  std::vector<T>& list_;
  std::map<T, std::size_t> slots_;
};

// Images of old versions do not say how a mapped file was open.
std::uint32_t access_mode(const pb::vma_entry& vma) {
  if (vma.has_fdflags()) return vma.fdflags() & O_ACCMODE;
  return (vma.status() & s::kFileShared) && (vma.prot() & PROT_WRITE) ? O_RDWR : O_RDONLY;
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
  plan.chunk_left_out_.resize(plan.chunks_.size());
  if (inherited_from.task) {
    std::vector<AddressRange> inherited;
    for (std::size_t i = 0; i < plan.sources_.size(); ++i)
      if (plan.sources_[i].kind == Source::Kind::kInherited) inherited.push_back({plan.vma(i).start(), plan.vma(i).end()});
    plan.stale_ = stale_pages(inherited, inherited_from.task->pages, task.pages);
  }
  return plan;
}

void MemoryPlan::choose_sources(const Origin& origin) {
  const ImageTask* from = origin.task;
  std::vector<const pb::vma_entry*> inherited(static_cast<std::size_t>(task_->mm->vmas_size()));
  if (from) inherited = inherited_mappings(*from->mm, *task_->mm);
  Slots files(files_);
  Slots shared(shared_);
  for (int i = 0; i < task_->mm->vmas_size(); ++i) {
    const pb::vma_entry& v = task_->mm->vmas(i);
    if (is_guard(v)) break;
    Source source;
    const pb::vma_entry* same = inherited[static_cast<std::size_t>(i)];
    if (v.status() & s::kVsyscall) source.kind = Source::Kind::kSkip;
    // Of another kernel: the code is ordinary memory, and where its data were are zeros. What a thread may
    // still run of it then takes its clock for one that needs a system call (VDSO_CLOCKMODE_NONE is 0).
    else if (v.status() & (s::kVdso | s::kVvar))
      source.kind = vdso_.proxied ? Source::Kind::kAnonymous : Source::Kind::kSkip;
    else if (same) source = {Source::Kind::kInherited, 0, same->prot(), same->end() < v.end() ? same->end() : 0};
    else if (is_segment(v)) source.kind = Source::Kind::kSkip;  // see engine/ipc/attachments.h
    else if (is_shared_anonymous(v)) source = {Source::Kind::kShared, shared.of(v.shmid())};
    else if (is_file_mapping(v))
      source = {Source::Kind::kFile, files.of({static_cast<std::uint32_t>(v.shmid()), access_mode(v)})};
    if (source.kind == Source::Kind::kSkip) kept_.push_back({v.start(), v.end()});
    sources_.push_back(source);
  }
  if (!from) return;
  unmap_ = foreign_mappings(*from->mm, *task_->mm, inherited);
  if (origin.vdso->proxied)
    unmap_.push_back({origin.vdso->map_at, origin.vdso->map_at + origin.vdso->map_bytes});
}

// Inherited mappings may have another protection in the parent, finished as that is.
bool MemoryPlan::writable_for_filling(std::size_t i) const {
  constexpr std::uint32_t kBoth = PROT_READ | PROT_WRITE;
  const bool inherited = sources_[i].kind == Source::Kind::kInherited;
  return has_pages_[i] && ((inherited ? sources_[i].protection : vma(i).prot()) & kBoth) != kBoth;
}

std::uint32_t MemoryPlan::protection_for_filling(std::size_t i) const {
  return has_pages_[i] ? vma(i).prot() | PROT_READ | PROT_WRITE : vma(i).prot();
}

bool MemoryPlan::is_kept(std::uint64_t address) const {
  const auto after = std::ranges::upper_bound(kept_, address, {}, &AddressRange::start);
  return after != kept_.begin() && address < std::prev(after)->end;
}

bool MemoryPlan::uses_scratch() const {
  for (std::size_t i = 0; i < chunks_.size(); ++i)
    if (chunk_scratch_[i] && !chunk_left_out_[i]) return true;
  return false;
}

// No piece is of two mappings.
bool MemoryPlan::is_inherited(const Chunk& chunk) const {
  const auto mappings = std::span(task_->mm->vmas().data(), sources_.size());
  return std::ranges::all_of(chunk.pieces, [&](const Piece& piece) {
    const auto at = std::ranges::upper_bound(mappings, piece.address, {}, [](const pb::vma_entry* v) { return v->end(); });
    return at != mappings.end() && sources_[static_cast<std::size_t>(at - mappings.begin())].kind == Source::Kind::kInherited;
  });
}

// A task could make two chunks of one checksum, but only of contents that it knows, and nobody's memory is told to another.
void MemoryPlan::leave_out_inherited(const MemoryPlan& parent,
                                     const std::function<std::optional<std::uint64_t>(const Chunk&)>& checksum_of) {
  std::unordered_map<std::uint64_t, const Chunk*> of_parent;  // by the address of the first page
  for (const Chunk& chunk : parent.chunks_) of_parent.emplace(chunk.pieces.front().address, &chunk);
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    const auto found = of_parent.find(chunks_[i].pieces.front().address);
    if (found == of_parent.end() || found->second->pieces != chunks_[i].pieces || !is_inherited(chunks_[i])) continue;
    const auto own = checksum_of(chunks_[i]);
    chunk_left_out_[i] = own.has_value() && own == checksum_of(*found->second);
  }
}

}  // namespace dormouse::engine
