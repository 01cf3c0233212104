// /proc/PID/mountinfo.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dormouse::proc {

struct MountInfo {
  std::uint32_t id = 0, parent_id = 0;
  std::uint32_t device_major = 0, device_minor = 0;
  std::string root;         // within the file system
  std::string mount_point;  // as the reader's root sees it
  std::string options;      // of the mount, comma separated: "rw,nosuid,relatime"
  // Propagation: peer group ids; 0: none.
  std::uint32_t shared = 0, master = 0, propagate_from = 0;
  bool unbindable = false;
  std::string type;           // "ext4", "fuse.sshfs"
  std::string source;         // "none", "/dev/sda1"; may be empty
  std::string super_options;  // of the file system, still escaped: commas in it would be ambiguous

  friend bool operator==(const MountInfo&, const MountInfo&) = default;
};

// In the kernel's order: a mount comes after its parent, later mounts on one place after earlier ones.
Result<std::vector<MountInfo>> parse_mountinfo(std::string_view text);

// Whether a comma separated list has this very word.
bool has_option(std::string_view options, std::string_view word);

}  // namespace dormouse::proc
