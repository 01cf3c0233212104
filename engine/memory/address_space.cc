#include "engine/memory/address_space.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>

#include "base/format.h"
#include "base/pages.h"
#include "engine/ipc/aio_ring.h"
#include "engine/memory/memory_attributes.h"
#include "engine/memory/page_tracking.h"
#include "engine/memory/pages_dump.h"
#include "engine/memory/protection_keys.h"
#include "engine/memory/shared_pages.h"
#include "engine/memory/vma_kind.h"
#include "images/own_types.h"
#include "kernel/pagemap.h"

namespace dormouse::engine {
namespace {

void fill_layout(pb::mm_entry& image, const proc::Stat& stat, const std::vector<std::uint64_t>& auxv) {
  image.set_mm_start_code(stat.start_code);
  image.set_mm_end_code(stat.end_code);
  image.set_mm_start_data(stat.start_data);
  image.set_mm_end_data(stat.end_data);
  image.set_mm_start_stack(stat.start_stack);
  image.set_mm_start_brk(stat.start_brk);
  image.set_mm_arg_start(stat.arg_start);
  image.set_mm_arg_end(stat.arg_end);
  image.set_mm_env_start(stat.env_start);
  image.set_mm_env_end(stat.env_end);
  for (const std::uint64_t word : auxv) image.add_mm_saved_auxv(word);
}

// The kernel shows its data page and the clock pages behind it as two mappings since Linux 6.13; the
// format knows one.
bool continues_vvar(const std::vector<pb::vma_entry>& vmas, const pb::vma_entry& next) {
  return !vmas.empty() && (next.status() & vma_status::kVvar) && (vmas.back().status() & vma_status::kVvar) &&
         vmas.back().end() == next.start();
}

// Write protection for the sake of an earlier dump is no property of the task.
proc::Vma unprotected(proc::Vma vma) {
  vma.flags.clear(proc::VmFlag::kUffdWriteProtect);
  return vma;
}

}  // namespace

// What is done while the kernel writes smaps.
class AddressSpace::Reading {
 public:
  Reading(AddressSpace& space, const DumpContext& context, const Task& task, const proc::ProcDir& dir, const sys::Features& features,
          Content content)
      : space_(space), context_(context), task_(task), dir_(dir), features_(features), may_copy_(content == Content::kWhileReading) {}

  Result<std::vector<proc::Vma>> read() {
    auto maps = dir_.smaps({.meanwhile = [&] { found_ = space_.find_pages(context_, dir_, features_); },
                            .each = [&](const proc::Vma& vma) { if (described_) described_ = space_.describe(context_, task_, vma); },
                            .idle = [&] { return copy_some(); }});
    TRY(std::move(found_));
    TRY(std::move(described_));
    return maps;
  }

 private:
  // The last one may still grow (continues_vvar()).
  bool copy_some() {
    if (!may_copy_ || (!space_.early_ && !begin())) return may_copy_ = false;
    for (; added_ + 1 < space_.vmas_.size(); ++added_) space_.early_->add(space_.vmas_[added_]);
    return space_.early_->copy_one();
  }
  bool begin() {
    if (!space_.content_) return false;
    auto memory = dir_.open_at("mem", O_RDONLY);
    auto file = memory ? context_.out.create_pages(PagesDump::kFirstNumber) : fail(memory.error());
    if (file) space_.early_.emplace(std::move(*file), std::move(*memory), *space_.content_);
    return file.has_value();
  }

  AddressSpace& space_;
  const DumpContext& context_;
  const Task& task_;
  const proc::ProcDir& dir_;
  const sys::Features& features_;
  bool may_copy_;
  std::size_t added_ = 0;  // of vmas_
  Result<> found_, described_;
};

Result<AddressSpace> AddressSpace::read(const DumpContext& context, const Task& task, const proc::ProcDir& dir,
                                        const sys::Features& features, Content content) {
  AddressSpace space;
  Reading reading(space, context, task, dir, features, content);
  space.maps_ = TRY_OR(reading.read(), std::move(e).owner(task.name()));
  fill_layout(space.image_, TRY_OR(dir.stat(), std::move(e).owner(task.name())),
              TRY_OR(dir.auxv(), std::move(e).owner(task.name())));
  note_sealed(space.maps_, space.attributes_);
  for (const abi::PageRegion& region : space.guards_) space.vmas_.push_back(describe_guard(region.start, region.end));
  return space;
}

Result<> AddressSpace::describe(const DumpContext& context, const Task& task, const proc::Vma& vma) {
  if (is_uprobes(vma) && context.options.allow_uprobes) {
    probed_ = true;
    return {};
  }
  const bool ours = vma.flags.has(proc::VmFlag::kUffdWriteProtect) && context.tracking && TRY(context.tracking->is_ours(task));
  Result<pb::vma_entry> entry = ours ? describe_vma(unprotected(vma), context.memory_mounts) : describe_vma(vma, context.memory_mounts);
  if (!entry) refused_.push_back(std::move(entry).error().owner(task.name()));
  else if (continues_vvar(vmas_, *entry)) vmas_.back().set_end(entry->end());
  else vmas_.push_back(std::move(*entry));
  return {};
}

std::optional<EarlyPages::Copied> AddressSpace::take_early() {
  if (!early_) return std::nullopt;
  return std::move(*std::exchange(early_, std::nullopt)).take();
}

void AddressSpace::report(Blockers& blockers) {
  for (Error& refused : std::exchange(refused_, {})) blockers.add(std::move(refused));
}

// The kernel knows guards only as entries of page tables.
Result<> AddressSpace::find_pages(const DumpContext& context, const proc::ProcDir& dir, const sys::Features& features) {
  const bool series = context.options.track_memory || !context.options.parent_images.empty();
  if (!series && features.has(sys::Feature::kPagemapScan)) {
    FoundPages found = TRY(engine::find_pages(dir, features));
    guards_ = std::move(found.guards);
    content_ = std::move(found.content);
  } else if (features.has(sys::Feature::kPagemapScanGuard)) {
    auto pagemap = TRY(sys::Pagemap::open(dir, true));
    guards_ = TRY(pagemap.ranges(0, kUserEnd, {.all_of = abi::kPageIsGuard, .returned = abi::kPageIsGuard}));
  }
  return {};
}

void AddressSpace::ask(parasite::Program& program, const parasite::Area& area) {
  lock_ = ask_lock_future(program, area.address());
  brk_ = program.call("ask for the program break", SYS_brk, {0});
  dumpable_ = program.call("ask whether dumpable", SYS_prctl, {PR_GET_DUMPABLE});
  thp_ = program.call("ask about huge pages", SYS_prctl, {PR_GET_THP_DISABLE, 0, 0, 0, 0});
  for (const pb::vma_entry& vma : vmas_) {
    if (!is_aio_ring(vma)) continue;
    const auto asked = program.call("ask for the aio context", SYS_io_getevents, {vma.start(), 0, 0, 0, 0}, parasite::anything());
    rings_.emplace_back(asked, describe_aio_ring(vma));
  }
  (void)policies_.ask(program, vmas_);
  if (processor_has_keys() && !vmas_.empty() && vmas_.front().start() >= 2 * kPage)
    keys_ = ask_for_keys(program, vmas_.front().start() - kPage);
}

Result<> AddressSpace::take(const parasite::Placed& placed, const proc::ProcDir& dir, const parasite::Area& area) {
  if (placed.result(lock_) == -EINVAL)
    for (const auto maps = TRY(dir.smaps()); const proc::Vma& vma : maps)
      if (vma.start <= area.address() && area.address() < vma.end) note_lock_future(vma, attributes_);
  for (const auto& [asked, ring] : rings_) {
    if (placed.result(asked) == 0) *image_.add_aios() = ring;
    else dead_rings_.push_back(ring);
  }
  policies_.take(placed, vmas_, attributes_);
  if (keys_) TRY(refuse_allocated_keys(placed, *keys_));
  image_.set_mm_brk(static_cast<std::uint64_t>(placed.result(brk_)));
  image_.set_dumpable(static_cast<std::int32_t>(placed.result(dumpable_)));
  image_.set_thp_disabled(placed.result(thp_) != 0);
  return {};
}

Result<> AddressSpace::save_file(pb::vma_entry& vma, const Task& task, FilesDump& files) const {
  const auto mapped = std::ranges::lower_bound(maps_, vma.start(), {}, &proc::Vma::start);
  vma.set_shmid(TRY(files.save_mapped(task, *mapped, static_cast<int>(vma.fdflags()))));
  return {};
}

Result<> AddressSpace::save_memory_files(const Task& task, FilesDump& files) {
  for (pb::vma_entry& vma : vmas_)
    if (is_memfd_mapping(vma)) TRY(save_file(vma, task, files));
  return {};
}

Result<> AddressSpace::save_files(const Task& task, FilesDump& files) {
  image_.set_exe_file_id(TRY(files.save_path(task, "exe", O_RDONLY)));
  for (pb::vma_entry& vma : vmas_) {
    if (is_memfd_mapping(vma)) continue;
    if (is_shared_anonymous(vma) && files.holds_memory(inode_of_anonymous(vma.shmid()), vma.flags() & MAP_HUGETLB)) {
      vma.set_status(vma_status::kRegular | vma_status::kFileShared | vma_status::kMemfd);
      vma.set_flags(vma.flags() & ~std::uint32_t{MAP_ANONYMOUS});
    } else if (!is_file_mapping(vma)) {
      continue;
    }
    TRY(save_file(vma, task, files));
  }
  return {};
}

Result<> AddressSpace::write(DumpContext& context, const Task& task) {
  // fork() copies the mapping, but not the context.
  for (const pb::aio_ring_entry& ring : dead_rings_)
    return fail(Error::unsupported("it is not a context of this process, but what is left of another's")
                    .object(format("aio ring at {:x}", ring.id())).owner(task.name()).remedy("unmap it before the checkpoint"));
  for (const pb::vma_entry& vma : vmas_) *image_.add_vmas() = vma;
  if (attributes_.ByteSizeLong() != 0)
    TRY(context.out.write(images::kDormouseMemory, task.ns_pid, attributes_));
  return context.out.write(images::kMm, task.ns_pid, image_);
}

}  // namespace dormouse::engine
