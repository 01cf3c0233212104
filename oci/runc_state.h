// The state.json that runc keeps of a container: <root>/<id>/state.json (runc 1.0 and later).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "oci/config.h"

namespace dormouse::oci {

struct RuncState {
  std::string id;
  pid_t init_pid = 0;                  // in the runtime's pid namespace
  std::uint64_t init_start_ticks = 0;  // field 22 of /proc/PID/stat
  std::string created;                 // RFC 3339
  std::string bundle;
  // By controller as runc names it ("freezer", "name=systemd", "" for v2), absolute directories.
  std::map<std::string, std::string> cgroup_paths;
  // What stood behind init's descriptors 0, 1 and 2 at its start: "pipe:[4711]", "/dev/null".
  std::vector<std::string> external_descriptors;
  // What the container was started with. config.json may have been changed since; this counts.
  Config config;
};

// `file` names the text in errors.
Result<RuncState> parse_runc_state(std::string_view text, const std::string& file);

}  // namespace dormouse::oci
