// linux.resources as writes into cgroup files, for both versions of cgroups. Pure; whoever makes the
// cgroups does the writing, in this order.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "oci/config.h"

namespace dormouse::oci {

struct CgroupWrite {
  std::string controller;  // "memory", "cpu", …; "" for a file of the v2 hierarchy
  std::string file, value;
  bool may_lack = false;  // a file that not every kernel has; nothing asked for depends on it

  bool operator==(const CgroupWrite&) const = default;
};

// v1. Access to devices is denied but for the rules and the nodes that every container has (null,
// zero, terminals, …), as runc does it, even if the configuration lists no rule.
std::vector<CgroupWrite> cgroup_writes_v1(const Resources& resources);

// v2. Without device rules: there they are no files, but a program.
std::vector<CgroupWrite> cgroup_writes_v2(const Resources& resources);

// The rules for devices in order, the always-allowed ones last; the first denies everything.
std::vector<DeviceRule> effective_device_rules(const Resources& resources);

// The directory of the container's cgroup relative to a hierarchy's root, beginning with "/".
// `own` is the caller's cgroup there: a path without leading "/" (or none at all) counts from it.
// "SLICE.slice:PREFIX:NAME" is systemd's notation. Empty `cgroups_path`: the container's id.
std::string container_cgroup(std::string_view cgroups_path, std::string_view id, std::string_view own);

}  // namespace dormouse::oci
