#include "shim/kernel_check.h"

#include <algorithm>

namespace dormouse::shim {
namespace {

using sys::Feature;
using enum FeatureCategory;

struct Row {
  std::string_view name;
  FeatureCategory category;
  Feature feature;
  std::string_view not_built = {};  // why we could not use it
};

constexpr std::string_view kNoLazyPages = "restoring memory on demand is not built";

constexpr Row kTable[] = {
    // Descriptors are examined and handed out by the engine, ids are chosen, paths are resolved
    // inside the container's root, programs live in memory files, mounts are made by descriptor.
    {"pidfd_getfd", kRequired, Feature::kPidfdGetfd},
    {"clone3_set_tid", kRequired, Feature::kClone3SetTid},
    {"openat2", kRequired, Feature::kOpenat2},
    {"memfd", kRequired, Feature::kMemfd},
    {"move_mount", kRequired, Feature::kMoveMount},

    {"mnt_id", kExtra, Feature::kMountId},
    {"mem_dirty_track", kExtra, Feature::kSoftDirty},
    {"aio_remap", kExtra, Feature::kAioRemap},
    {"timerfd", kExtra, Feature::kTimerfd},
    {"tun", kExtra, Feature::kTun},
    {"tun_ns", kByNameOnly, Feature::kTunNamespace},
    {"userns", kExtra, Feature::kUserNamespace},
    {"fdinfo_lock", kExtra, Feature::kFdinfoLock},
    {"seccomp_suspend", kExtra, Feature::kSuspendSeccomp},
    {"seccomp_filters", kExtra, Feature::kSeccompFilters},
    {"loginuid", kExtra, Feature::kLoginuid},
    {"cgroupns", kExtra, Feature::kCgroupNamespace},
    {"autofs", kExperimental, Feature::kAutofs},
    {"tcp_half_closed", kExtra, Feature::kTcpHalfClosed},
    {"compat_cr", kExperimental, Feature::kCompatTasks},
    {"uffd", kExtra, Feature::kUserfaultfd, kNoLazyPages},
    {"uffd-noncoop", kExtra, Feature::kUserfaultfdFork, kNoLazyPages},
    {"can_map_vdso", kExtra, Feature::kMapVdso},
    {"sk_ns", kExtra, Feature::kSocketNamespace},
    {"sk_unix_file", kByNameOnly, Feature::kSocketUnixFile},
    {"net_diag_raw", kExtra, Feature::kNetDiagRaw},
    {"nsid", kByNameOnly, Feature::kNsid},
    {"link_nsid", kByNameOnly, Feature::kLinkNsid},
    {"kcmp_epoll", kExtra, Feature::kKcmpEpoll},
    {"timens", kExtra, Feature::kTimeNamespace},
    // No kernel lacks it: a name that callers use to ask for the version that brought it.
    {"external_net_ns", kByNameOnly, Feature::kPidfdGetfd},
    {"newifindex", kExtra, Feature::kNewIfindex},
    {"nftables", kByNameOnly, Feature::kNftables},
    // We run no iptables program, so what counts is the kernel's part, not whether the program is installed.
    {"has_ipt_legacy", kByNameOnly, Feature::kIptablesLegacy},
    {"network_lock_nftables", kExtra, Feature::kNftables},
    {"pidfd_store", kExtra, Feature::kPidfdGetfd},
    {"ns_pid", kExtra, Feature::kNsPid},
    {"apparmor_stacking", kByNameOnly, Feature::kApparmorStacking},
    {"sockopt_buf_lock", kExtra, Feature::kSocketBufferLock},
    {"memfd_hugetlb", kExtra, Feature::kMemfdHugetlb},
    {"move_mount_set_group", kExtra, Feature::kMoveMountSetGroup},
    {"get_rseq_conf", kExtra, Feature::kRseqConfiguration},
    {"ipv6_freebind", kExtra, Feature::kIpv6Freebind},
    {"pagemap_scan", kExtra, Feature::kPagemapScan},
    {"timer_cr_ids", kExtra, Feature::kTimerRestoreIds},
    {"overlayfs_maps", kExtra, Feature::kOverlayMaps},
    {"breakpoints", kByNameOnly, Feature::kHardwareBreakpoints},
    {"pagemap_scan_guard_pages", kExtra, Feature::kPagemapScanGuard},
};

// Soft-dirty bits are one way to track changes; asynchronous write protection is the other.
bool kernel_has(const Row& row, const HasFeature& has) {
  if (has(row.feature)) return true;
  return row.feature == Feature::kSoftDirty && has(Feature::kPagemapScan) &&
         has(Feature::kUserfaultfdWpAsync);
}

Error lacking(const Row& row) {
  return Error::unsupported("this kernel does not have it")
      .object("feature " + std::string(row.name));
}

}  // namespace

Result<> check_feature(std::string_view name, const HasFeature& has) {
  const auto row = std::ranges::find(kTable, name, &Row::name);
  if (row == std::end(kTable))
    return fail(Error::bad_option("unknown")
                    .object("feature " + std::string(name))
                    .remedy("--feature list names them"));
  if (!row->not_built.empty())
    return fail(
        Error::unsupported(std::string(row->not_built)).object("feature " + std::string(name)));
  if (!kernel_has(*row, has)) return fail(lacking(*row));
  return {};
}

std::vector<Error> missing_features(FeatureCategory category, const HasFeature& has) {
  std::vector<Error> missing;
  for (const Row& row : kTable)
    if (row.category == category && !kernel_has(row, has)) missing.push_back(lacking(row));
  return missing;
}

std::vector<std::string_view> feature_names() {
  std::vector<std::string_view> names;
  for (const Row& row : kTable) names.push_back(row.name);
  return names;
}

}  // namespace dormouse::shim
