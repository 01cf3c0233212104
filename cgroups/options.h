// What save and restore of cgroups have in common.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dormouse::cgroups {

// How much is restored. The numbers are those of the RPC's criu_cg_mode.
enum class Mode : std::uint8_t {
  kIgnore,  // nothing: tasks stay in the engine's groups
  kNone,    // the groups must exist; tasks are put into them
  kProps,   // the groups must exist and get the saved properties
  kSoft,    // missing groups are made; only those get the saved properties
  kFull,    // missing groups are made; all get the saved properties
  kStrict,  // no group may exist
};

// Another place for the tasks' top group, in one hierarchy or in all.
struct RootOverride {
  std::string controller;         // as in /proc/PID/cgroup: "cpu,cpuacct", "name=systemd", "" for v2
  bool every_controller = false;  // `controller` means nothing then
  std::string path;
};

}  // namespace dormouse::cgroups
