// /proc/PID/maps and /proc/PID/smaps.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dormouse::proc {

// The two-letter words of VmFlags, as bits. Words of a newer kernel set kOther.
enum class VmFlag : std::uint8_t {
  kRead,           // rd
  kWrite,          // wr
  kExec,           // ex
  kShared,         // sh
  kMayRead,        // mr
  kMayWrite,       // mw
  kMayExec,        // me
  kMayShare,       // ms
  kGrowsDown,      // gd
  kPfnMap,         // pf
  kLocked,         // lo: mlock
  kIo,             // io
  kSequential,     // sr: MADV_SEQUENTIAL
  kRandom,         // rr: MADV_RANDOM
  kDontCopy,       // dc: MADV_DONTFORK
  kDontExpand,     // de
  kLockOnFault,    // lf
  kAccount,        // ac
  kNoReserve,      // nr: MAP_NORESERVE
  kHugeTlb,        // ht
  kSync,           // sf: MAP_SYNC
  kArch,           // ar
  kWipeOnFork,     // wf: MADV_WIPEONFORK
  kDontDump,       // dd: MADV_DONTDUMP
  kSoftDirty,      // sd
  kMixedMap,       // mm
  kHugePage,       // hg: MADV_HUGEPAGE
  kNoHugePage,     // nh: MADV_NOHUGEPAGE
  kMergeable,      // mg: MADV_MERGEABLE
  kUffdMissing,    // um
  kUffdWriteProtect,  // uw
  kUffdMinor,      // ui
  kMemoryTagged,   // mt
  kShadowStack,    // ss
  kSealed,         // sl: mseal()
  kDroppable,      // dp: MAP_DROPPABLE
  kOther,
};

class VmFlags {
 public:
  constexpr bool has(VmFlag flag) const { return bits_ >> static_cast<unsigned>(flag) & 1; }
  constexpr void set(VmFlag flag) { bits_ |= std::uint64_t{1} << static_cast<unsigned>(flag); }
  constexpr void clear(VmFlag flag) { bits_ &= ~(std::uint64_t{1} << static_cast<unsigned>(flag)); }
  constexpr std::uint64_t bits() const { return bits_; }
  friend constexpr bool operator==(VmFlags, VmFlags) = default;

 private:
  std::uint64_t bits_ = 0;
};

// One mapping, [start, end) in bytes.
struct Vma {
  std::uint64_t start = 0, end = 0;
  std::uint64_t offset = 0;  // in the file, bytes
  std::uint64_t inode = 0;
  std::uint32_t device_major = 0, device_minor = 0;
  bool readable = false, writable = false, executable = false, shared = false;
  // The path or "[heap]", "[anon:name]", …; "" for plain anonymous memory. A newline in a path is
  // given back as such; " (deleted)" stays where the kernel put it.
  std::string name;

  // From smaps only; zero otherwise.
  std::uint64_t rss_kb = 0, anonymous_kb = 0, swap_kb = 0;
  std::uint64_t shared_dirty_kb = 0, private_dirty_kb = 0;
  std::uint64_t anon_huge_kb = 0, hugetlb_kb = 0;  // transparent huge pages; hugetlb, both kinds
  std::uint64_t kernel_page_kb = 0;
  std::uint64_t protection_key = 0;
  VmFlags flags;

  std::uint64_t size_bytes() const { return end - start; }
};

Result<std::vector<Vma>> parse_maps(std::string_view text);
Result<std::vector<Vma>> parse_smaps(std::string_view text);

}  // namespace dormouse::proc
