#include "kernel/abi.h"

#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <sys/ioctl.h>

#include <cstddef>

// The only file that sees both definitions.
namespace dormouse::abi {
namespace {

template <class Ours, class Theirs>
inline constexpr bool kSameLayout = sizeof(Ours) == sizeof(Theirs) && alignof(Ours) <= alignof(Theirs);

static_assert(kSameLayout<CloneArgs, ::clone_args>);
static_assert(offsetof(CloneArgs, exit_signal) == offsetof(::clone_args, exit_signal));
static_assert(offsetof(CloneArgs, tls) == offsetof(::clone_args, tls));
static_assert(offsetof(CloneArgs, set_tid) == offsetof(::clone_args, set_tid));
static_assert(offsetof(CloneArgs, cgroup) == offsetof(::clone_args, cgroup));
static_assert(kCloneClearSighand == CLONE_CLEAR_SIGHAND && kCloneIntoCgroup == CLONE_INTO_CGROUP);
static_assert(kCloneNewTime == CLONE_NEWTIME);

static_assert(kSameLayout<RseqConfiguration, ::ptrace_rseq_configuration>);
static_assert(offsetof(RseqConfiguration, signature) ==
              offsetof(::ptrace_rseq_configuration, signature));
static_assert(kSameLayout<PeekSiginfoArgs, ::ptrace_peeksiginfo_args>);
static_assert(offsetof(PeekSiginfoArgs, count) == offsetof(::ptrace_peeksiginfo_args, nr));
static_assert(kPeekSiginfoShared == PTRACE_PEEKSIGINFO_SHARED);

static_assert(kSameLayout<MountAttr, ::mount_attr>);
static_assert(offsetof(MountAttr, userns_fd) == offsetof(::mount_attr, userns_fd));
static_assert(kMoveMountSetGroup == MOVE_MOUNT_SET_GROUP);

static_assert(sizeof(PagemapScanArg) == 96 && sizeof(PageRegion) == 24);
static_assert(kPagemapScan == _IOWR('f', 16, PagemapScanArg));
#ifdef PAGEMAP_SCAN  // headers of Linux 6.7 and later
static_assert(kSameLayout<PagemapScanArg, ::pm_scan_arg> && kSameLayout<PageRegion, ::page_region>);
static_assert(kPagemapScan == PAGEMAP_SCAN);
#endif

}  // namespace
}  // namespace dormouse::abi
