// Kernel structures and numbers that the C library's headers lack or that headers of an older kernel
// define differently. kernel/abi.cc checks them against the system's headers where those have them.
#pragma once

#include <cstdint>

namespace dormouse::abi {

// clone3(), Linux 5.3; set_tid since 5.5, cgroup since 5.7.
struct CloneArgs {
  std::uint64_t flags = 0;
  std::uint64_t pidfd = 0;      // int*
  std::uint64_t child_tid = 0;  // pid_t*
  std::uint64_t parent_tid = 0;
  std::uint64_t exit_signal = 0;
  std::uint64_t stack = 0;
  std::uint64_t stack_size = 0;
  std::uint64_t tls = 0;
  std::uint64_t set_tid = 0;  // pid_t[], innermost pid namespace first
  std::uint64_t set_tid_size = 0;
  std::uint64_t cgroup = 0;  // descriptor of a cgroup v2 directory, with CLONE_INTO_CGROUP
};

inline constexpr std::uint64_t kCloneClearSighand = 0x1'0000'0000;
inline constexpr std::uint64_t kCloneIntoCgroup = 0x2'0000'0000;
inline constexpr std::uint64_t kCloneNewTime = 0x80;

// ioprio_set(), ioprio_get(). The header is no C++ since Debian's kernel 6.1.192: a parameter is called `class`.
inline constexpr int kIoPriorityOfProcess = 1;  // IOPRIO_WHO_PROCESS: one thread
enum class IoPriorityClass : std::uint32_t { kNone = 0, kRealTime = 1, kBestEffort = 2, kIdle = 3 };
constexpr std::uint32_t io_priority(IoPriorityClass of, std::uint32_t level) { return static_cast<std::uint32_t>(of) << 13 | level; }
constexpr IoPriorityClass class_of_io_priority(std::uint32_t value) { return static_cast<IoPriorityClass>(value >> 13 & 7); }

// PTRACE_GET_RSEQ_CONFIGURATION, Linux 5.13.
struct RseqConfiguration {
  std::uint64_t pointer = 0;
  std::uint32_t size = 0;
  std::uint32_t signature = 0;
  std::uint32_t flags = 0;
  std::uint32_t pad = 0;
};

// PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, Linux 6.4.
struct CallDispatch {
  std::uint64_t mode = 0;  // PR_SYS_DISPATCH_*; 0: off
  std::uint64_t selector = 0, offset = 0, length = 0;
};

// PTRACE_PEEKSIGINFO, Linux 3.10.
struct PeekSiginfoArgs {
  std::uint64_t offset = 0;
  std::uint32_t flags = 0;
  std::int32_t count = 0;
};
inline constexpr std::uint32_t kPeekSiginfoShared = 1;

// sched_getattr(), sched_setattr(): the first version's size, Linux 3.14.
struct SchedAttr {
  std::uint32_t size = 48;
  std::uint32_t policy = 0;    // SCHED_*
  std::uint64_t flags = 0;     // kSchedFlag*
  std::int32_t nice = 0;
  std::uint32_t priority = 0;  // of SCHED_FIFO and SCHED_RR
  std::uint64_t runtime = 0, deadline = 0, period = 0;
};
static_assert(sizeof(SchedAttr) == 48);
inline constexpr std::uint64_t kSchedFlagResetOnFork = 1;

// mount_setattr(), Linux 5.12.
struct MountAttr {
  std::uint64_t attr_set = 0;
  std::uint64_t attr_clear = 0;
  std::uint64_t propagation = 0;
  std::uint64_t userns_fd = 0;
};

inline constexpr unsigned kMoveMountSetGroup = 0x100;  // MOVE_MOUNT_SET_GROUP, Linux 5.15

// PAGEMAP_SCAN on /proc/PID/pagemap, Linux 6.7.
struct PageRegion {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t categories = 0;
};
struct PagemapScanArg {
  std::uint64_t size = 0;
  std::uint64_t flags = 0;
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t walk_end = 0;
  std::uint64_t vec = 0;
  std::uint64_t vec_len = 0;
  std::uint64_t max_pages = 0;
  std::uint64_t category_inverted = 0;
  std::uint64_t category_mask = 0;
  std::uint64_t category_anyof_mask = 0;
  std::uint64_t return_mask = 0;
};
inline constexpr unsigned long kPagemapScan = 0xc0606610;  // _IOWR('f', 16, PagemapScanArg)

inline constexpr std::uint64_t kPageIsWpallowed = 1 << 0;
inline constexpr std::uint64_t kPageIsWritten = 1 << 1;
inline constexpr std::uint64_t kPageIsFile = 1 << 2;
inline constexpr std::uint64_t kPageIsPresent = 1 << 3;
inline constexpr std::uint64_t kPageIsSwapped = 1 << 4;
inline constexpr std::uint64_t kPageIsPfnzero = 1 << 5;
inline constexpr std::uint64_t kPageIsHuge = 1 << 6;
inline constexpr std::uint64_t kPageIsSoftDirty = 1 << 7;
inline constexpr std::uint64_t kPageIsGuard = 1 << 8;  // Linux 6.15
inline constexpr std::uint64_t kPmScanWpMatching = 1 << 0;
inline constexpr std::uint64_t kPmScanCheckWpasync = 1 << 1;

// userfaultfd feature bits that headers before 6.7 lack.
inline constexpr std::uint64_t kUffdFeatureWpUnpopulated = 1 << 13;
inline constexpr std::uint64_t kUffdFeatureWpAsync = 1 << 15;

}  // namespace dormouse::abi
