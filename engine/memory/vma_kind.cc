#include "engine/memory/vma_kind.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <bit>
#include <string>
#include <string_view>

#include "base/format.h"
#include "engine/memory/shared_pages.h"

namespace dormouse::engine {
namespace {

using proc::Vma;
using proc::VmFlag;
namespace s = vma_status;
constexpr std::string_view kDeleted = " (deleted)";

// Advice that a VMA remembers, and the MADV_* that gave it.
constexpr struct {
  VmFlag flag;
  int advice;
} kAdvice[] = {
    {VmFlag::kRandom, MADV_RANDOM},     {VmFlag::kSequential, MADV_SEQUENTIAL},
    {VmFlag::kDontCopy, MADV_DONTFORK}, {VmFlag::kMergeable, MADV_MERGEABLE},
    {VmFlag::kHugePage, MADV_HUGEPAGE}, {VmFlag::kNoHugePage, MADV_NOHUGEPAGE},
    {VmFlag::kDontDump, MADV_DONTDUMP}, {VmFlag::kWipeOnFork, MADV_WIPEONFORK},
};

#ifndef MAP_DROPPABLE
constexpr std::uint32_t MAP_DROPPABLE = 0x08;  // Linux 6.11
#endif

Failure refuse(const Vma& vma, std::string what, std::string remedy) {
  return fail(Error::unsupported(std::move(what))
                  .object(format("mapping {:x}-{:x}{}{}", vma.start, vma.end, vma.name.empty() ? "" : " ",
                                 vma.name))
                  .remedy(std::move(remedy)));
}

// Named by its key in hexadecimal.
bool is_system_v(const Vma& vma) { return vma.shared && vma.name.starts_with("/SYSV") && vma.name.ends_with(kDeleted); }
// A file that is called like that can grow by mremap().
bool is_ring(const Vma& vma) {
  return vma.shared && vma.device_major == 0 && vma.name == "/[aio] (deleted)" && vma.flags.has(VmFlag::kDontExpand);
}
// Not every kernel has it locked (6.18 has, Debian's 6.12 has not).
bool is_secret(const Vma& vma) {
  return vma.shared && vma.device_major == 0 && vma.name == "/secretmem (deleted)" && vma.flags.has(VmFlag::kDontDump);
}

// Kinds that are recognised in order to be refused by name.
Result<> refuse_unsupported(const Vma& vma) {
  const auto has = [&](VmFlag flag) { return vma.flags.has(flag); };
  if (vma.name.starts_with("anon_inode:[io_uring]"))
    return refuse(vma, "io_uring rings cannot be saved", "close the ring before the checkpoint");
  if (is_secret(vma))
    return refuse(vma, "secret memory is out of everybody else's reach by design", "unmap it first");
  if (is_uprobes(vma))
    return refuse(vma, "a uprobe is or was active in this task, and its code may still be changed by it",
                  "with --allow-uprobes it is saved with what its code is now; active uprobes must be so at the restore, too");
  if (vma.name.starts_with("anon_inode:") || vma.name.starts_with("socket:"))
    return refuse(vma, "mappings of this kind cannot be saved", "unmap it before the checkpoint");
  if (has(VmFlag::kUffdMissing) || has(VmFlag::kUffdWriteProtect) || has(VmFlag::kUffdMinor))
    return refuse(vma, "the memory is handled through a userfaultfd", "unregister it before the checkpoint");
  if (has(VmFlag::kShadowStack)) return refuse(vma, "shadow stacks cannot be saved yet", "disable them (GLIBC_TUNABLES)");
  // One that can be executed and nothing else has a key of the kernel's choice.
  if (vma.protection_key != 0 && (vma.readable || vma.writable))
    return refuse(vma, "the memory has a protection key, which is part of the processor's state and cannot be given again yet",
                  "give it key 0 with pkey_mprotect() before the checkpoint");
  if ((has(VmFlag::kIo) || has(VmFlag::kPfnMap)) && !vma.name.starts_with("[vvar"))
    return refuse(vma, "it maps a device's memory", "unmap the device before the checkpoint");
  return {};
}

// Of a mapping whose file is on a mount of the kernel's own. Anonymous memory that is shared, or of huge pages, shows
// as the unlinked file that the kernel makes for it.
std::uint32_t status_of_memory(const Vma& vma) {
  // The inode number of a segment's file is its id, which may be 0.
  if (is_system_v(vma)) return s::kRegular | s::kAnonShared | s::kSysvIpc;
  if (vma.name == "/anon_hugepage (deleted)") return s::kRegular | (vma.shared ? s::kAnonShared : s::kAnonPrivate);
  const bool is_zero = vma.name == "/dev/zero (deleted)";
  if (is_zero && vma.shared) return s::kRegular | s::kAnonShared;
  // Privately mapped it can only be through /proc/PID/map_files: like a memfd then.
  const std::uint32_t memfd = is_zero || vma.name.starts_with("/memfd:") ? s::kMemfd : 0;
  return s::kRegular | memfd | (vma.shared ? s::kFileShared : s::kFilePrivate);
}

std::uint32_t status_of(const Vma& vma, const MemoryMounts& memory) {
  if (vma.name == "[vsyscall]") return s::kAnonPrivate | s::kVsyscall;
  if (vma.name == "[vdso]") return s::kRegular | s::kAnonPrivate | s::kVdso;
  if (vma.name.starts_with("[vvar")) return s::kRegular | s::kAnonPrivate | s::kVvar;
  if (memory.hold(vma.device_major, vma.device_minor)) return status_of_memory(vma);
  if (is_ring(vma)) return s::kAioRing;
  if (vma.inode != 0) return s::kRegular | (vma.shared ? s::kFileShared : s::kFilePrivate);
  return s::kRegular | s::kAnonPrivate | (vma.name == "[heap]" ? s::kHeap : 0);
}

std::uint32_t flags_of(const Vma& vma, std::uint32_t status) {
  std::uint32_t flags = vma.shared ? MAP_SHARED : MAP_PRIVATE;
  if (vma.flags.has(VmFlag::kDroppable)) flags = MAP_DROPPABLE;
  if (!(status & (s::kFilePrivate | s::kFileShared | s::kAioRing))) flags |= MAP_ANONYMOUS;
  if (vma.flags.has(VmFlag::kGrowsDown)) flags |= MAP_GROWSDOWN;
  if (vma.flags.has(VmFlag::kLocked)) flags |= MAP_LOCKED;
  // The format knows no MLOCK_ONFAULT. Next to MAP_LOCKED this flag means nothing to the kernel, so that a
  // reader that does not know our meaning locks the memory and loads it at once.
  if (vma.flags.has(VmFlag::kLockOnFault)) flags |= MAP_LOCKED | MAP_NONBLOCK;
  if (vma.flags.has(VmFlag::kNoReserve)) flags |= MAP_NORESERVE;
  if (vma.flags.has(VmFlag::kSync)) flags |= MAP_SYNC;
  if (vma.flags.has(VmFlag::kHugeTlb)) flags |= MAP_HUGETLB;
  if (vma.flags.has(VmFlag::kHugeTlb) && vma.kernel_page_kb != 0)
    flags |= static_cast<std::uint32_t>(std::countr_zero(vma.kernel_page_kb << 10)) << MAP_HUGE_SHIFT;
  return flags;
}

}  // namespace

Result<pb::vma_entry> describe_vma(const Vma& vma, const MemoryMounts& memory) {
  TRY(refuse_unsupported(vma));
  pb::vma_entry entry;
  entry.set_start(vma.start);
  entry.set_end(vma.end);
  entry.set_status(status_of(vma, memory));
  const bool file_backed = entry.status() & (s::kFilePrivate | s::kFileShared | s::kAnonShared);
  entry.set_pgoff(file_backed ? vma.offset : 0);
  const bool huge = vma.flags.has(VmFlag::kHugeTlb);
  if (is_shared_anonymous(entry)) entry.set_shmid(anonymous_shmid(vma.inode, huge));
  else entry.set_shmid(is_segment(entry) ? vma.inode : 0);
  entry.set_prot((vma.readable ? PROT_READ : 0) | (vma.writable ? PROT_WRITE : 0) |
                 (vma.executable ? PROT_EXEC : 0));
  entry.set_flags(flags_of(vma, entry.status()));
  entry.set_fd(-1);
  // A shared mapping that may become writable was made from a descriptor open for writing.
  if (entry.status() & (s::kFilePrivate | s::kFileShared | s::kAnonShared))
    entry.set_fdflags(vma.shared && vma.flags.has(VmFlag::kMayWrite) ? O_RDWR : O_RDONLY);
  std::uint64_t advice = 0;
  for (const auto& known : kAdvice)
    if (vma.flags.has(known.flag)) advice |= std::uint64_t{1} << known.advice;
  if (advice != 0) entry.set_madv(advice);
  return entry;
}

std::uint64_t page_bytes_of(std::uint32_t mmap_flags) {
  constexpr std::uint32_t kSizeMask = 0x3f, kDefault = 21;
  if (!(mmap_flags & MAP_HUGETLB)) return 4096;
  const std::uint32_t order = mmap_flags >> MAP_HUGE_SHIFT & kSizeMask;
  return std::uint64_t{1} << (order == 0 ? kDefault : order);
}

pb::vma_entry describe_guard(std::uint64_t start, std::uint64_t end) {
  pb::vma_entry entry;
  entry.set_start(start);
  entry.set_end(end);
  entry.set_status(s::kGuard);
  entry.set_pgoff(0);
  entry.set_shmid(0);
  entry.set_prot(0);
  entry.set_flags(0);
  entry.set_fd(-1);
  return entry;
}

// What is in droppable memory the kernel may forget at any time, and it is meant for what must not be written
// down (vgetrandom keeps its state there): it comes back empty.
bool has_private_pages(const pb::vma_entry& vma) {
  return !(vma.flags() & MAP_DROPPABLE) && (vma.status() & (s::kAnonPrivate | s::kFilePrivate | s::kAioRing)) &&
         !(vma.status() & (s::kVsyscall | s::kVvar));
}

}  // namespace dormouse::engine
