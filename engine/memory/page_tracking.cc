#include "engine/memory/page_tracking.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/format.h"
#include "base/pages.h"
#include "kernel/pagemap.h"
#include "kernel/process.h"
#include "kernel/ptrace.h"
#include "kernel/userfaultfd.h"

namespace dormouse::engine {
namespace {

using proc::VmFlag;
constexpr std::uint64_t kNotContent = abi::kPageIsFile | abi::kPageIsPfnzero;

// Private pages with content of their own: not the file's, not the zero page, no guards (which look like swapped pages).
sys::PageQuery content_query(const sys::Features& features, std::uint64_t returned) {
  const std::uint64_t no = kNotContent | (features.has(sys::Feature::kPagemapScanGuard) ? abi::kPageIsGuard : 0);
  return {.all_of = no, .any_of = abi::kPageIsPresent | abi::kPageIsSwapped, .inverted = no, .returned = returned};
}

// Gets a userfaultfd of the task's own address space. Should the engine die, the farewell closes it.
Result<Fd> borrow_userfaultfd(const Task& task, parasite::Keeper& keeper, parasite::HeldProcess& held) {
  parasite::Program farewell;
  const auto number = farewell.value(std::int64_t{-1});
  farewell.call("", SYS_close, {parasite::Load{number}}, parasite::anything());
  const parasite::Placed placed = TRY(held.set_farewell(farewell));
  const auto run = [&](const parasite::Program& program) -> Result<> {
    parasite::Batch batch(keeper);
    TRY(batch.add(held, held.leader(), program));
    return batch.run();
  };
  parasite::Program make;
  const auto fd = make.call("make a userfaultfd", SYS_userfaultfd, {O_CLOEXEC | sys::kUserfaultfdUserModeOnly});
  make.perform(parasite::OpCode::kStore, "note its number", {placed.data_address(number), fd});
  Result<Fd> taken = [&]() -> Result<Fd> {
    TRY(run(make));
    const auto in_task = static_cast<int>(placed.value<std::int64_t>(number));
    auto ours = sys::pidfd_getfd(task.pidfd.get(), in_task);
    parasite::Program close;
    close.call("close the userfaultfd", SYS_close, {in_task});
    TRY(run(close));
    return ours;
  }();
  held.drop_farewell();
  return taken;
}

// Asynchronous I/O may have pages of its own choice pinned at this moment, and fill them without a fault that anybody
// would notice. Marks stay as they are then: they tell of too much, never of too little.
bool pins_memory(std::span<const proc::Vma> maps) {
  return std::ranges::any_of(maps, [](const proc::Vma& vma) { return vma.name.starts_with("/[aio]"); });
}

}  // namespace

TrackingMethod tracking_method(const sys::Features& features) {
  if (features.has(sys::Feature::kSoftDirty)) return TrackingMethod::kSoftDirty;
  if (features.has(sys::Feature::kPagemapScan) && features.has(sys::Feature::kUserfaultfdWpAsync))
    return TrackingMethod::kWriteProtection;
  return TrackingMethod::kNone;
}

bool can_be_protected(const proc::Vma& vma) {
  const auto has = [&](VmFlag flag) { return vma.flags.has(flag); };
  // Names in brackets that are not the task's own memory: the kernel's data and code pages.
  return !vma.shared && vma.inode == 0 && has(VmFlag::kMayWrite) && !vma.name.starts_with("[v") && !has(VmFlag::kHugeTlb) &&
         !has(VmFlag::kIo) && !has(VmFlag::kPfnMap) && !has(VmFlag::kMixedMap) && !has(VmFlag::kShadowStack) &&
         !has(VmFlag::kDroppable) && !has(VmFlag::kUffdMissing) && !has(VmFlag::kUffdMinor);
}

std::vector<abi::PageRegion> mark_written(const std::vector<abi::PageRegion>& regions,
                                          const std::vector<abi::PageRegion>& written) {
  std::vector<abi::PageRegion> marked;
  auto at = written.begin();
  for (const abi::PageRegion& region : regions) {
    std::uint64_t start = region.start;
    while (at != written.end() && at->end <= start) ++at;
    for (auto next = at; next != written.end() && next->start < region.end; ++next) {
      if (next->start > start) marked.push_back({start, next->start, region.categories});
      const std::uint64_t from = std::max(start, next->start), to = std::min(region.end, next->end);
      marked.push_back({from, to, region.categories | abi::kPageIsWritten});
      start = to;
    }
    if (start < region.end) marked.push_back({start, region.end, region.categories});
  }
  return marked;
}

Result<FoundPages> find_pages(const proc::ProcDir& dir, const sys::Features& features) {
  auto pagemap = TRY(sys::Pagemap::open(dir, true));
  sys::PageQuery query = content_query(features, 0);
  // Guards look like swapped pages of no file: they come along, and are told apart.
  query.returned = query.all_of & abi::kPageIsGuard;
  query.all_of &= ~query.returned;
  query.inverted &= ~query.returned;
  FoundPages found{.content = TRY(pagemap.ranges(0, kUserEnd, query)), .guards = {}};
  const auto guard = [](const abi::PageRegion& region) { return (region.categories & abi::kPageIsGuard) != 0; };
  std::ranges::copy_if(found.content, std::back_inserter(found.guards), guard);
  std::erase_if(found.content, guard);
  for (abi::PageRegion& region : found.content) region.categories = abi::kPageIsWritten;
  return found;
}

void PageTracking::look() {
  if (std::exchange(looked_, true)) return;
  for (Warden& warden : Warden::find_all()) others_.push_back(std::make_unique<Warden>(std::move(warden)));
}

// What is known of a task, from an earlier round if there was one.
Result<PageTracking::State*> PageTracking::state_of(const Task& task) {
  for (const auto& state : states_)
    if (state->task.pid == task.pid) return state.get();
  look();
  auto state = std::make_unique<State>();
  state->task.pid = task.pid;
  state->vm_id = task.vm_id;
  const auto dir = TRY(proc::ProcDir::open(task.pid));
  state->task.start_time_ticks = TRY(dir.stat()).start_time_ticks;
  state->task.pidfd = TRY(sys::duplicate(task.pidfd.get()));
  const auto tracks = [&](const std::unique_ptr<Warden>& warden) {
    return warden->tracks(task.pid, state->task.start_time_ticks);
  };
  if (const auto found = std::ranges::find_if(others_, tracks); found != others_.end()) {
    wardens_.push_back(std::move(*found));
    others_.erase(found);
  }
  if (const auto found = std::ranges::find_if(wardens_, tracks); found != wardens_.end()) {
    state->warden = found->get();
    // One that ended this instant took the protection with it.
    auto fd = state->warden->userfaultfd(task.pid, state->task.start_time_ticks);
    if (fd) state->task.userfaultfd = std::move(*fd);
    if (fd) state->since = state->warden->generation();
  }
  states_.push_back(std::move(state));
  return states_.back().get();
}

Result<bool> PageTracking::is_ours(const Task& task) {
  const std::scoped_lock lock(asking_);
  const auto ours = [](const State& state) { return state.warden && state.task.userfaultfd; };
  if (ours(*TRY(state_of(task)))) return true;
  // A process born since, into memory that is tracked already.
  return std::ranges::any_of(states_, [&](const auto& other) {
    return task.vm_id != 0 && other->vm_id == task.vm_id && ours(*other);
  });
}

Result<> PageTracking::follow_calls(const Task& task, parasite::HeldProcess& held) {
  if (!looked_) return {};
  constexpr auto kRestartBlock = static_cast<unsigned long long>(-516);  // ERESTART_RESTARTBLOCK
  const State* state = TRY(state_of(task));
  for (const auto& thread : held.threads()) {
    const user_regs_struct regs = TRY(sys::ptrace::getregs(thread->tid()));
    if (regs.rax != kRestartBlock) continue;
    InterruptedCall call{thread->tid(), static_cast<std::int32_t>(regs.orig_rax), regs.rip, regs.rsp,
                         parasite::runs_32_bit_code(regs) ? regs.rbx : regs.rdi};
    if (regs.orig_rax == parasite::restart_number(regs)) {
      if (!state->warden) continue;
      const auto known = std::ranges::find_if(state->warden->calls(), [&](const auto& one) { return one.same_place(call); });
      if (known == state->warden->calls().end()) continue;
      call.number = known->number;
      thread->name_call(static_cast<std::uint64_t>(call.number));
    }
    calls_.push_back(call);
  }
  return {};
}

Result<bool> PageTracking::tracked_since(const Task& task, const std::string& generation) {
  const std::scoped_lock lock(asking_);
  const State* state = TRY(state_of(task));
  return !generation.empty() && state->since == generation;
}

Result<bool> PageTracking::needs_descriptor(const Task& task) {
  if (method_ != TrackingMethod::kWriteProtection || !task.owns_vm) return false;
  const State* state = TRY(state_of(task));
  return !state->task.userfaultfd;
}

Result<> PageTracking::make_descriptor(const Task& task, parasite::Keeper& keeper, parasite::HeldProcess& held) {
  State* state = TRY(state_of(task));
  auto fd = borrow_userfaultfd(task, keeper, held);
  if (fd) {
    if (const Result<> begun = sys::userfaultfd_begin_async(fd->get()); !begun) fd = std::unexpected(begun.error());
  }
  if (fd) {
    state->task.userfaultfd = std::move(*fd);
    return {};
  }
  if (fd.error().kind() == Error::Kind::kTaskDied) return fail(std::move(fd).error());
  // No room in its table of descriptors, say. Nothing is wrong but the size of the next images.
  log_.warn("{}: its memory is not tracked, all of it will be saved again: {}", task.name(), fd.error().message());
  return {};
}

// Mappings that are new to us are protected from now on. Marks that a page might have brought along from elsewhere are
// taken off first (before Linux 6.13 mremap() left them on), or it would be written to unnoticed.
void PageTracking::protect(const State& state, std::span<const proc::Vma> maps) {
  const int fd = state.task.userfaultfd.get();
  for (const proc::Vma& vma : maps) {
    if (!can_be_protected(vma) || vma.flags.has(VmFlag::kUffdWriteProtect)) continue;
    Result<> done = sys::userfaultfd_register(fd, vma.start, vma.end);
    if (done) done = sys::userfaultfd_unprotect(fd, vma.start, vma.end);
    if (!done)
      log_.debug("mapping {:x}-{:x} is not tracked: {}", vma.start, vma.end, done.error().message());
  }
}

// Finds what is written and protects it, in one step for each page.
Result<std::vector<abi::PageRegion>> PageTracking::take_marks(const proc::ProcDir& dir,
                                                              std::span<const proc::Vma> maps) const {
  auto pagemap = TRY(sys::Pagemap::open(dir, true));
  sys::PageQuery query = content_query(features_, 0);
  query.all_of |= abi::kPageIsWritten;
  query.write_protect = true;
  std::vector<abi::PageRegion> written;
  for (const proc::Vma& vma : maps) {
    if (!can_be_protected(vma)) continue;
    const Result<> scanned = pagemap.append_ranges(vma.start, vma.end, query, written);
    // EPERM: it could not be registered, and stays untracked.
    if (!scanned && !scanned.error().is_kernel(EPERM)) return fail(scanned.error());
  }
  return written;
}

Result<std::vector<abi::PageRegion>> PageTracking::content(const Task& task, const proc::ProcDir& dir,
                                                           std::span<const proc::Vma> maps, bool again) {
  std::unique_lock lock(asking_, std::defer_lock);
  if (again || looked_) lock.lock();
  const State* state = again || looked_ ? TRY(state_of(task)) : nullptr;
  if (again) TRY(invalidate_earlier());
  if (again && state->task.userfaultfd) TRY(share(task, *state));
  const bool marks = again && !pins_memory(maps);
  const bool scan = features_.has(sys::Feature::kPagemapScan);
  auto pagemap = TRY(sys::Pagemap::open(dir, scan));
  std::vector<abi::PageRegion> regions;
  const auto read = [&](std::uint64_t returned) -> Result<> {
    const sys::PageQuery query = content_query(features_, returned);
    if (scan) return pagemap.append_ranges(0, kUserEnd, query, regions);
    for (const proc::Vma& vma : maps)
      if (!vma.shared && vma.end <= kUserEnd) TRY(pagemap.append_ranges(vma.start, vma.end, query, regions));
    return {};
  };

  if (method_ == TrackingMethod::kSoftDirty) {
    TRY(read(abi::kPageIsSoftDirty));
    for (abi::PageRegion& region : regions)
      region.categories = region.categories & abi::kPageIsSoftDirty ? abi::kPageIsWritten : 0;
    if (marks) {
      const Fd file = TRY(dir.open_at("clear_refs", O_WRONLY));
      TRY(sys::write_all(file.get(), "4"));
    }
    return regions;
  }
  if (method_ == TrackingMethod::kWriteProtection && state && state->task.userfaultfd) {
    std::vector<abi::PageRegion> written;
    if (marks) {
      protect(*state, maps);
      written = TRY(take_marks(dir, maps));
    }
    TRY(read(abi::kPageIsWritten | abi::kPageIsWpallowed));
    for (abi::PageRegion& region : regions) {
      const bool clean = (region.categories & abi::kPageIsWpallowed) && !(region.categories & abi::kPageIsWritten);
      region.categories = clean ? 0 : abi::kPageIsWritten;
    }
    return marks ? mark_written(regions, written) : regions;
  }
  TRY(read(0));
  for (abi::PageRegion& region : regions) region.categories = abi::kPageIsWritten;
  return regions;
}

// Each process that uses this memory may be the one that is left of them in the end.
Result<> PageTracking::share(const Task& owner, const State& state) {
  for (const Task* sharer : owner.memory_sharers) {
    State* other = TRY(state_of(*sharer));
    if (!other->task.userfaultfd) other->task.userfaultfd = TRY(sys::duplicate(state.task.userfaultfd.get()));
  }
  return {};
}

// Whoever kept an eye on these tasks before does so for images that are not the youngest any more.
Result<> PageTracking::invalidate_earlier() {
  for (const auto& warden : wardens_)
    if (!warden->generation().empty()) TRY(warden->invalidate());
  return {};
}

Result<> PageTracking::end_earlier() {
  for (const auto& warden : wardens_) TRY(warden->end());
  for (const auto& state : states_) state->warden = nullptr;
  wardens_.clear();
  return {};
}

Result<> PageTracking::go_on(const std::string& generation) {
  std::vector<TrackedTask> tasks;
  for (const auto& state : states_)
    if (state->task.userfaultfd || method_ == TrackingMethod::kSoftDirty) tasks.push_back(std::move(state->task));
  if (!tasks.empty()) TRY(Warden::start(generation, tasks, calls_));
  states_.clear();
  return end_earlier();
}

Result<> PageTracking::end() {
  const Result<> ended = end_earlier();
  states_.clear();  // with the last duplicates the protection goes
  return ended;
}

}  // namespace dormouse::engine
