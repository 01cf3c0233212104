// What Dormouse remembers of a container that it restored, and what it tells others about one.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dormouse::oci {

// Kept as <root>/<id>/state.json beside a copy of the config.json that was restored.
struct State {
  std::string id;
  pid_t pid = 0;  // in the runtime's pid namespace; 0 until the container is restored
  std::uint64_t pid_start_ticks = 0;  // field 22 of /proc/PID/stat: tells a reused pid
  std::string created;                // RFC 3339
  std::string bundle, rootfs;
  // By controller ("freezer", "name=systemd", "" for v2), absolute directories.
  std::map<std::string, std::string> cgroup_paths;
  // What stood behind descriptors 0, 1 and 2 when it was restored: "pipe:[4711]", "/dev/null".
  std::vector<std::string> external_descriptors;

  bool operator==(const State&) const = default;
};

Result<State> parse_state(std::string_view text, const std::string& file);
std::string format_state(const State& state);

// Is this text a state of ours? The alternative is runc's.
bool is_own_state(std::string_view text);

// The specification's state, as `state` prints it and hooks read it.
struct PublicState {
  std::string oci_version, id;
  std::string status;  // creating, created, running, paused, stopped
  pid_t pid = 0;
  std::string bundle, rootfs, created;  // the last two are left out when empty
  std::map<std::string, std::string> annotations;
};
std::string format_public_state(const PublicState& state);

}  // namespace dormouse::oci
