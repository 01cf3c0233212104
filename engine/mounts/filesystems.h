// The kinds of file system that a mount namespace can be rebuilt with.
#pragma once

#include <cstdint>
#include <string_view>

namespace dormouse::engine {

// What there is to save beside the mount itself.
enum class Content : std::uint8_t {
  kNone,        // the kernel makes it up (proc, sysfs, cgroup, …), or it is somebody else's (overlay, mqueue)
  kTmpfs,       // lives in memory: goes into an archive
  kMustBeEmpty, // would have to be saved, but cannot be
  kRefused,     // a program outside is behind it (fuse) or inside (autofs)
};

struct Filesystem {
  std::string_view name;  // as in mountinfo, without a subtype
  std::uint32_t number;   // mnt_entry.fstype
  Content content;
};

// Null if a mount of this kind can only come from outside. A subtype ("fuse.sshfs") is not looked at.
const Filesystem* filesystem_by_name(std::string_view name);
// Null for UNSUPPORTED, AUTO and numbers that do not exist.
const Filesystem* filesystem_by_number(std::uint32_t number);

}  // namespace dormouse::engine
