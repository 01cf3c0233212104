#include "engine/memory/vma_kind.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <string>
#include <string_view>

#include "base/format.h"

namespace dormouse::engine {
namespace {

using proc::Vma;
using proc::VmFlag;
namespace s = vma_status;

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

Failure refuse(const Vma& vma, std::string what, std::string remedy) {
  return fail(Error::unsupported(std::move(what))
                  .object(format("mapping {:x}-{:x}{}{}", vma.start, vma.end, vma.name.empty() ? "" : " ",
                                 vma.name))
                  .remedy(std::move(remedy)));
}

// The kernel's own file systems have no device number of a block device, and such files never have a name that
// can be found: "/SYSV" and the key in hexadecimal.
bool is_system_v(const Vma& vma) {
  return vma.shared && vma.device_major == 0 && vma.name.starts_with("/SYSV") && vma.name.ends_with(" (deleted)");
}
bool is_ring(const Vma& vma) { return vma.shared && vma.device_major == 0 && vma.name == "/[aio] (deleted)"; }

// Kinds that are recognised in order to be refused by name.
Result<> refuse_unsupported(const Vma& vma) {
  const auto has = [&](VmFlag flag) { return vma.flags.has(flag); };
  if (vma.name.starts_with("anon_inode:[io_uring]"))
    return refuse(vma, "io_uring rings cannot be saved", "close the ring before the checkpoint");
  if (vma.name.starts_with("/memfd:"))
    return refuse(vma, "memfd mappings cannot be saved yet", "unmap it before the checkpoint");
  if (vma.name.starts_with("/secretmem"))
    return refuse(vma, "secret memory is out of everybody else's reach by design", "unmap it first");
  if (vma.name.starts_with("[uprobes]"))
    return refuse(vma, "a uprobe is active in this task", "remove the probe before the checkpoint");
  if (vma.name.starts_with("anon_inode:") || vma.name.starts_with("socket:"))
    return refuse(vma, "mappings of this kind cannot be saved", "unmap it before the checkpoint");
  if (has(VmFlag::kHugeTlb) && !is_system_v(vma)) return refuse(vma, "hugetlb pages cannot be saved yet", "use transparent huge pages");
  if (has(VmFlag::kUffdMissing) || has(VmFlag::kUffdWriteProtect) || has(VmFlag::kUffdMinor))
    return refuse(vma, "the memory is handled through a userfaultfd", "unregister it before the checkpoint");
  if (has(VmFlag::kShadowStack)) return refuse(vma, "shadow stacks cannot be saved yet", "disable them (GLIBC_TUNABLES)");
  if (has(VmFlag::kSealed) && !vma.name.starts_with("["))
    return refuse(vma, "the mapping is sealed (mseal) and could not be sealed again", "not supported");
  if ((has(VmFlag::kIo) || has(VmFlag::kPfnMap)) && !vma.name.starts_with("[vvar"))
    return refuse(vma, "it maps a device's memory", "unmap the device before the checkpoint");
  return {};
}

std::uint32_t status_of(const Vma& vma) {
  if (vma.name == "[vsyscall]") return s::kAnonPrivate | s::kVsyscall;
  if (vma.name == "[vdso]") return s::kRegular | s::kAnonPrivate | s::kVdso;
  if (vma.name.starts_with("[vvar")) return s::kRegular | s::kAnonPrivate | s::kVvar;
  // Shared anonymous memory shows as the unlinked file that the kernel makes for it.
  if (vma.shared && vma.name == "/dev/zero (deleted)") return s::kRegular | s::kAnonShared;
  // The inode number of a segment's file is its id, which may be 0.
  if (is_system_v(vma)) return s::kRegular | s::kAnonShared | s::kSysvIpc;
  if (is_ring(vma)) return s::kAioRing;
  if (vma.inode != 0) return s::kRegular | (vma.shared ? s::kFileShared : s::kFilePrivate);
  return s::kRegular | s::kAnonPrivate | (vma.name == "[heap]" ? s::kHeap : 0);
}

std::uint32_t flags_of(const Vma& vma, std::uint32_t status) {
  std::uint32_t flags = vma.shared ? MAP_SHARED : MAP_PRIVATE;
  if (!(status & (s::kFilePrivate | s::kFileShared | s::kAioRing))) flags |= MAP_ANONYMOUS;
  if (vma.flags.has(VmFlag::kGrowsDown)) flags |= MAP_GROWSDOWN;
  if (vma.flags.has(VmFlag::kLocked)) flags |= MAP_LOCKED;
  if (vma.flags.has(VmFlag::kNoReserve)) flags |= MAP_NORESERVE;
  return flags;
}

}  // namespace

Result<pb::vma_entry> describe_vma(const Vma& vma) {
  TRY(refuse_unsupported(vma));
  pb::vma_entry entry;
  entry.set_start(vma.start);
  entry.set_end(vma.end);
  entry.set_status(status_of(vma));
  const bool file_backed = entry.status() & (s::kFilePrivate | s::kFileShared | s::kAnonShared);
  entry.set_pgoff(file_backed ? vma.offset : 0);
  entry.set_shmid(entry.status() & s::kAnonShared ? vma.inode : 0);
  entry.set_prot((vma.readable ? PROT_READ : 0) | (vma.writable ? PROT_WRITE : 0) |
                 (vma.executable ? PROT_EXEC : 0));
  entry.set_flags(flags_of(vma, entry.status()));
  entry.set_fd(-1);
  // A shared mapping that may become writable was made from a descriptor open for writing.
  if (entry.status() & (s::kFilePrivate | s::kFileShared | s::kSysvIpc))
    entry.set_fdflags(vma.shared && vma.flags.has(VmFlag::kMayWrite) ? O_RDWR : O_RDONLY);
  std::uint64_t advice = 0;
  for (const auto& known : kAdvice)
    if (vma.flags.has(known.flag)) advice |= std::uint64_t{1} << known.advice;
  if (advice != 0) entry.set_madv(advice);
  return entry;
}

bool has_private_pages(const pb::vma_entry& vma) {
  return (vma.status() & (s::kAnonPrivate | s::kFilePrivate | s::kAioRing)) &&
         !(vma.status() & (s::kVsyscall | s::kVvar));
}

}  // namespace dormouse::engine
