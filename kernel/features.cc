#include "kernel/features.h"

#include <algorithm>

#include "base/format.h"
#include "kernel/probes.h"

namespace dormouse::sys {

namespace {

constexpr FeatureInfo kTable[] = {
    {Feature::kPagemapScan, "pagemap_scan", probes::pagemap_scan},
    {Feature::kPagemapScanGuard, "pagemap_scan_guard_pages", probes::pagemap_scan_guard},
    {Feature::kSoftDirty, "mem_dirty_track", probes::soft_dirty},
    {Feature::kUserfaultfd, "uffd", probes::userfaultfd},
    {Feature::kUserfaultfdFork, "uffd-noncoop", probes::userfaultfd_fork},
    {Feature::kUserfaultfdWpAsync, "uffd_wp_async", probes::userfaultfd_wp_async},
    {Feature::kProcessVm, "process_vm", probes::process_vm},
    {Feature::kMemfd, "memfd", probes::memfd},
    {Feature::kMemfdHugetlb, "memfd_hugetlb", probes::memfd_hugetlb},
    {Feature::kMapVdso, "can_map_vdso", probes::map_vdso},
    {Feature::kAioRemap, "aio_remap", probes::aio_remap},
    {Feature::kPidfdGetfd, "pidfd_store", probes::pidfd_getfd},
    {Feature::kClone3SetTid, "clone3_set_tid", probes::clone3_set_tid},
    {Feature::kCloneIntoCgroup, "clone_into_cgroup", probes::clone_into_cgroup},
    {Feature::kRseqConfiguration, "get_rseq_conf", probes::rseq_configuration},
    {Feature::kSuspendSeccomp, "seccomp_suspend", probes::suspend_seccomp},
    {Feature::kSeccompFilters, "seccomp_filters", probes::seccomp_filters},
    {Feature::kHardwareBreakpoints, "breakpoints", probes::hardware_breakpoints},
    {Feature::kTimerRestoreIds, "timer_cr_ids", probes::timer_restore_ids},
    {Feature::kKcmpEpoll, "kcmp_epoll", probes::kcmp_epoll},
    {Feature::kCompatTasks, "compat_cr", probes::compat_tasks},
    {Feature::kUserNamespace, "userns", probes::user_namespace},
    {Feature::kCgroupNamespace, "cgroupns", probes::cgroup_namespace},
    {Feature::kTimeNamespace, "timens", probes::time_namespace},
    {Feature::kNsPid, "ns_pid", probes::ns_pid},
    {Feature::kLoginuid, "loginuid", probes::loginuid},
    {Feature::kApparmorStacking, "apparmor_stacking", probes::apparmor_stacking},
    {Feature::kMountId, "mnt_id", probes::mount_id},
    {Feature::kFdinfoLock, "fdinfo_lock", probes::fdinfo_lock},
    {Feature::kTimerfd, "timerfd", probes::timerfd},
    {Feature::kOpenat2, "openat2", probes::openat2},
    {Feature::kMoveMount, "move_mount", probes::move_mount},
    {Feature::kMoveMountSetGroup, "move_mount_set_group", probes::move_mount_set_group},
    {Feature::kMountSetattr, "mount_setattr", probes::mount_setattr},
    {Feature::kAutofs, "autofs", probes::autofs},
    {Feature::kOverlayMaps, "overlayfs_maps", probes::overlay_maps},
    {Feature::kSocketNamespace, "sk_ns", probes::socket_namespace},
    {Feature::kSocketUnixFile, "sk_unix_file", probes::socket_unix_file},
    {Feature::kSocketBufferLock, "sockopt_buf_lock", probes::socket_buffer_lock},
    {Feature::kIpv6Freebind, "ipv6_freebind", probes::ipv6_freebind},
    {Feature::kTcpHalfClosed, "tcp_half_closed", probes::tcp_half_closed},
    {Feature::kNetDiagRaw, "net_diag_raw", probes::net_diag_raw},
    {Feature::kNsid, "nsid", probes::nsid},
    {Feature::kLinkNsid, "link_nsid", probes::link_nsid},
    {Feature::kNewIfindex, "newifindex", probes::new_ifindex},
    {Feature::kTun, "tun", probes::tun},
    {Feature::kTunNamespace, "tun_ns", probes::tun_namespace},
    {Feature::kNftables, "nftables", probes::nftables},
    {Feature::kIptablesLegacy, "has_ipt_legacy", probes::iptables_legacy},
};

// The table is indexed by the enumeration.
static_assert([] {
  std::size_t index = 0;
  for (const auto& info : kTable)
    if (static_cast<std::size_t>(info.feature) != index++) return false;
  return index == static_cast<std::size_t>(Feature::kCount);
}());

// Names that mean the same here.
struct Alias {
  std::string_view name;
  Feature feature;
};
constexpr Alias kAliases[] = {
    {"pidfd_getfd", Feature::kPidfdGetfd},
    {"soft_dirty", Feature::kSoftDirty},
    {"userfaultfd", Feature::kUserfaultfd},
    {"external_net_ns", Feature::kSocketNamespace},
    {"network_lock_nftables", Feature::kNftables},
};

}  // namespace

Result<Features> Features::make(std::span<const std::string> without) {
  Features features;
  for (const auto& name : without) {
    const auto feature = find(name);
    if (!feature) return fail(Error::bad_option(format("there is no kernel feature '{}'", name)));
    features.answers_[static_cast<std::size_t>(*feature)] = Answer::kNo;
  }
  return features;
}

bool Features::has(Feature feature) const {
  Answer& answer = answers_[static_cast<std::size_t>(feature)];
  if (answer == Answer::kUnasked)
    answer = kTable[static_cast<std::size_t>(feature)].probe() ? Answer::kYes : Answer::kNo;
  return answer == Answer::kYes;
}

std::span<const FeatureInfo> Features::all() { return kTable; }

std::optional<Feature> Features::find(std::string_view name) {
  for (const auto& info : kTable)
    if (info.name == name) return info.feature;
  for (const auto& alias : kAliases)
    if (alias.name == name) return alias.feature;
  return std::nullopt;
}

}  // namespace dormouse::sys
