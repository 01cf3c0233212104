// HeldProcess's shared area: where it is mapped in the process, and how that is undone whatever happens.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/format.h"
#include "base/pages.h"
#include "kernel/file.h"
#include "kernel/process.h"
#include "parasite/host/attended.h"
#include "parasite/host/frame32.h"
#include "parasite/host/held_process.h"

namespace dormouse::parasite {
namespace {

// Where 32-bit code finds the end, whatever its personality says (ADDR_LIMIT_3GB).
constexpr std::uint64_t kEnd32 = 0xc000'0000;

// The calls that a thread makes outside the interpreter, as 32-bit code numbers them.
long number32(long number) {
  switch (number) {
    case SYS_mmap: return kMmap32;
    case SYS_munmap: return kMunmap32;
    case SYS_mprotect: return kMprotect32;
  }
  return -1;  // ENOSYS
}

// An address for `size` bytes in the middle of the largest hole below `highest`: far from anything that may grow.
Result<std::uint64_t> find_hole(std::span<const proc::Vma> maps, std::uint64_t size, std::uint64_t highest) {
  constexpr std::uint64_t kLowest = 1 << 20, kAlign = 2 << 20;
  std::uint64_t previous = kLowest, best_start = 0, best_size = 0;
  const auto consider = [&](std::uint64_t end) {
    if (end > previous && end - previous > best_size) {
      best_start = previous;
      best_size = end - previous;
    }
  };
  for (const proc::Vma& vma : maps) {
    consider(std::min(vma.start, highest));
    previous = std::max(previous, vma.end);
  }
  consider(highest);
  if (best_size < size + 2 * kAlign)
    return fail(Error::unsupported("no room in the address space for the engine's shared area"));
  return (best_start + (best_size - size) / 2) / kAlign * kAlign;
}

}  // namespace

// If the engine dies in between, the thread returns from the gadget into the restorer and so onto its frame.
Result<std::uint64_t> HeldProcess::call(HeldThread& thread, long number, std::span<const std::uint64_t> args,
                                        std::uint64_t stack) {
  return TRY_OR(attended_syscall(keeper_, thread.tid_, thread.context_.regs, gadgets_.syscall, stack,
                                 is_32_ ? number32(number) : number, args),
                std::move(e).owner(name_));
}

namespace {

std::array<std::uint64_t, 6> mapping_arguments(std::uint64_t wanted, std::size_t size, bool writable) {
  const std::uint64_t protection = PROT_READ | PROT_EXEC | (writable ? PROT_WRITE : 0);
  return {wanted, size, protection, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, static_cast<std::uint64_t>(-1), 0};
}

}  // namespace

// A task may have given up memory that is both written and executed (PR_SET_MDWE, Linux 6.3; a security module may
// forbid it too), and then nothing can become executable later, but the other way round it can.
Result<std::uint64_t> HeldProcess::mapped_area(bool& writable) {
  Result<std::uint64_t> mapped = mapping_->call.end(keeper_);
  writable = mapped || !mapped.error().is_kernel(EACCES);
  if (writable) return mapped;
  return call(leader(), SYS_mmap, mapping_arguments(mapping_->wanted, mapping_->size, false), mapping_->stack);
}

// All of the area but the interpreter becomes data.
Result<> HeldProcess::part_area(std::uint64_t stack) {
  const std::uint64_t text = area_address_ + Area::kPage;
  const std::uint64_t text_end = text + Area::kPage;
  const std::uint64_t header[] = {area_address_, Area::kPage, PROT_READ | PROT_WRITE};
  const std::uint64_t rest[] = {text_end, area_address_ + area_size_ - text_end, PROT_READ | PROT_WRITE};
  TRY(call(leader(), SYS_mprotect, header, stack));
  TRY(call(leader(), SYS_mprotect, rest, stack));
  return {};
}

namespace {

Error no_room(Error error, std::size_t size) {
  const bool at_a_limit = error.is_kernel(ENOMEM) || error.is_kernel(EAGAIN);
  Error told = std::move(error).during("mapping the shared area");
  if (!at_a_limit) return told;
  return std::move(told).object(format("room for {} bytes", size))
      .remedy("it is at a limit: raise its RLIMIT_AS, RLIMIT_MEMLOCK after mlockall(), or vm.max_map_count");
}

}  // namespace

// If the engine dies when the area is mapped but no thread serves in it yet, the leader must take it away
// again: the call returns to a frame that unmaps the area and only then to the frame that brings the
// leader home. This needs the address beforehand.
Result<> HeldProcess::begin_mapping(std::span<const proc::Vma> maps, std::size_t program_bytes) {
  const auto slots = static_cast<std::uint32_t>(threads_.size()) + 1;  // one for a helper thread
  const std::size_t size = Area::size_for(slots, program_bytes);
  const std::uint64_t wanted = TRY(find_hole(maps, size, is_32_ ? kEnd32 : kUserEnd));
  mapping_.emplace(AttendedCall(leader().tid(), leader().context_.regs), slots, wanted, size, leader().frame_.address);
  if (can_tidy()) {
    const SignalFrame undo = undo_frame(wanted, size);
    std::vector<std::byte> covered(undo.bytes.size());
    TRY(sys::process_vm_read(leader().tid(), undo.address, covered));
    TRY(sys::process_vm_write(leader().tid(), undo.address, undo.bytes));
    mapping_->covered = std::move(covered);
    mapping_->stack = undo.address;
  }
  return mapping_->call.begin(gadgets_.syscall, mapping_->stack, is_32_ ? kMmap32 : SYS_mmap,
                              mapping_arguments(wanted, size, true));
}

Result<> HeldProcess::finish_mapping(int proc_dir) {
  bool writable = true;
  area_address_ = TRY_OR(mapped_area(writable), no_room(std::move(e), mapping_->size));
  area_size_ = mapping_->size;
  const std::string link = format("map_files/{:x}-{:x}", area_address_, area_address_ + area_size_);
  const Fd memory = TRY(sys::openat(proc_dir, link, O_RDWR));
  if (!writable) TRY_OR(part_area(mapping_->stack), std::move(e).during("parting the shared area"));
  area_ = TRY(Area::adopt(memory.get(), area_address_, mapping_->slots, area_size_));
  area_->header().spins = Area::spins_for(keeper_.held());
  if (can_tidy()) area_->header().unmap_gadget = gadgets_.syscall;
  area_->header().gadget_pops = gadgets_.pops;
  TRY(start_serving(leader(), arrival_.leaders.program));
  return give_up_mapping();
}

// Whatever has become of it: the call has ended, and what its frame covered is back.
Result<> HeldProcess::give_up_mapping() {
  if (!mapping_) return {};
  Mapping mapping = *std::exchange(mapping_, std::nullopt);
  if (mapping.call.under_way()) {
    const auto mapped = mapping.call.finish(keeper_);
    if (!mapped && mapped.error().kind() != Error::Kind::kKernel) return fail(mapped.error());
    area_address_ = mapped.value_or(0);
    area_size_ = mapping.size;
  }
  if (mapping.covered.empty()) return {};
  return sys::process_vm_write(leader().tid(), mapping.stack, mapping.covered);
}

Result<> HeldProcess::unmap_area() {
  if (area_address_ == 0) return {};
  const std::uint64_t args[] = {area_address_, area_size_};
  TRY(call(leader(), SYS_munmap, args, leader().frame_.address));
  area_address_ = 0;
  return {};
}

}  // namespace dormouse::parasite
