#include "engine/memory/memory_attributes.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/format.h"
#include "engine/memory/memory_policy.h"
#include "engine/memory/vma_kind.h"
#include "images/schema/attributes.pb.h"

namespace dormouse::engine {
namespace {

using proc::VmFlag;
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kUserEnd = 0x7fff'ffff'f000;
constexpr long kMseal = 462;  // Linux 6.10

}  // namespace

bool is_sealed_by_task(const proc::Vma& vma) {
  return vma.flags.has(VmFlag::kSealed) && !vma.name.starts_with("[v") && !is_uprobes(vma);
}

void note_sealed(std::span<const proc::Vma> maps, pb::memory_attributes_entry& to) {
  for (const proc::Vma& vma : maps) {
    if (!is_sealed_by_task(vma)) continue;
    if (to.sealed_size() != 0 && to.sealed().rbegin()->end() == vma.start) {
      to.mutable_sealed()->rbegin()->set_end(vma.end);
      continue;
    }
    pb::sealed_range_entry& range = *to.add_sealed();
    range.set_start(vma.start);
    range.set_end(vma.end);
  }
}

parasite::OpRef ask_lock_future(parasite::Program& program, std::uint64_t area_address) {
  // Of shared memory nothing is lost by it; the kernel does not do it to locked memory.
  return program.call("ask whether new memory is locked", SYS_madvise, {area_address, kPage, MADV_DONTNEED}, parasite::anything());
}

void note_lock_future(const proc::Vma& area, pb::memory_attributes_entry& to) {
  if (!area.flags.has(VmFlag::kLocked)) return;
  to.set_lock_future(MCL_FUTURE | (area.flags.has(VmFlag::kLockOnFault) ? MCL_ONFAULT : 0));
}

Result<> check_memory_attributes(const pb::memory_attributes_entry& entry) {
  for (const pb::sealed_range_entry& range : entry.sealed())
    if (range.start() % kPage || range.end() % kPage || range.start() >= range.end() || range.end() > kUserEnd)
      return fail(Error::corrupt(format("sealed range {:x}-{:x} is not a valid range", range.start(), range.end())));
  TRY(check_memory_policies(entry));
  if (entry.lock_future() & ~std::uint32_t{MCL_FUTURE | MCL_ONFAULT})
    return fail(Error::corrupt(format("flags {:#x} of mlockall() are impossible", entry.lock_future())));
  return {};
}

void append_memory_attributes(parasite::Program& program, const pb::memory_attributes_entry& entry) {
  append_memory_policies(program, entry);
  for (const pb::sealed_range_entry& range : entry.sealed())
    program.call(format("seal {:x}-{:x}", range.start(), range.end()), kMseal, {range.start(), range.end() - range.start(), 0});
  if (entry.lock_future() != 0) program.call("lock mappings to come", SYS_mlockall, {entry.lock_future()});
}

}  // namespace dormouse::engine
