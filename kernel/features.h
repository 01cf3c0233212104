// What this kernel can do, found out by trying, each thing when it is first asked for.
//
// Nothing is cached beyond this object's life. A feature named in `without` is absent without being
// tried: that is how tests and people in the field take the other path.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace dormouse::sys {

enum class Feature : std::uint8_t {
  // memory
  kPagemapScan,        // PAGEMAP_SCAN, Linux 6.7
  kPagemapScanGuard,   // PAGE_IS_GUARD, Linux 6.15
  kSoftDirty,          // CONFIG_MEM_SOFT_DIRTY
  kUserfaultfd,
  kUserfaultfdFork,    // events for fork, remap, remove and unmap
  kUserfaultfdWpAsync, // write-protect tracking without a handler, Linux 6.7
  kProcessVm,          // process_vm_readv
  kMemfd,
  kMemfdHugetlb,
  kMapVdso,            // ARCH_MAP_VDSO_64
  kAioRemap,           // an aio ring may be moved
  // tasks
  kPidfdGetfd,         // Linux 5.6
  kClone3SetTid,       // Linux 5.5
  kCloneIntoCgroup,    // Linux 5.7
  kRseqConfiguration,  // Linux 5.13
  kSuspendSeccomp,
  kSeccompFilters,     // filters can be read back
  kHardwareBreakpoints,
  kTimerRestoreIds,    // PR_TIMER_CREATE_RESTORE_IDS, Linux 6.15
  kKcmpEpoll,
  kCompatTasks,        // 32-bit tasks
  // namespaces, cgroups, security
  kUserNamespace,
  kCgroupNamespace,
  kTimeNamespace,
  kNsPid,              // NSpid in /proc/PID/status
  kLoginuid,           // /proc/PID/loginuid may be changed back
  kApparmorStacking,
  // files and mounts
  kMountId,            // mnt_id in fdinfo
  kFdinfoLock,         // file locks in fdinfo
  kTimerfd,            // fdinfo of a timerfd tells its state
  kOpenat2,            // Linux 5.6
  kMoveMount,          // the descriptor-based mount calls, Linux 5.2
  kMoveMountSetGroup,  // Linux 5.15
  kMountSetattr,       // Linux 5.12
  kAutofs,
  kOverlayMaps,        // a mapped overlayfs file has the same device and inode in maps as in stat
  // network
  kSocketNamespace,    // SIOCGSKNS
  kSocketUnixFile,     // SIOCUNIXFILE
  kSocketBufferLock,   // SO_BUF_LOCK, Linux 5.14
  kIpv6Freebind,
  kTcpHalfClosed,      // TCP_REPAIR on half-closed connections
  kNetDiagRaw,         // sock_diag knows raw sockets
  kNsid,               // RTM_GETNSID
  kLinkNsid,           // links of another namespace by its id, Linux 4.15
  kNewIfindex,         // IFLA_NEW_IFINDEX, Linux 5.13
  kTun,
  kTunNamespace,       // SIOCGSKNS on a tun device
  kNftables,
  kIptablesLegacy,     // ip_tables, the tables before nf_tables
  kCount,
};

struct FeatureInfo {
  Feature feature;
  std::string_view name;  // as `criu check --feature` calls it, where it knows it
  bool (*probe)();
};

class Features {
 public:
  // An unknown name is kBadOption.
  static Result<Features> make(std::span<const std::string> without = {});
  Features() = default;

  bool has(Feature feature) const;

  static std::span<const FeatureInfo> all();
  // Also knows the other names a feature has had.
  static std::optional<Feature> find(std::string_view name);

 private:
  enum class Answer : std::uint8_t { kUnasked, kYes, kNo };
  mutable std::array<Answer, static_cast<std::size_t>(Feature::kCount)> answers_{};
};

}  // namespace dormouse::sys
