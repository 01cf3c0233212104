// Files that the engine must not open, since somebody has a lease on them that opening would break.
//
// The kernel tells of all leases of the machine at once, in /proc/locks, and takes its time: the reader sleeps for a grace period
// of RCU (percpu_down_write() in locks_start(), fs/locks.c), some 10 ms, in which the tree stands still. To be asked only where
// nothing else tells.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "base/error.h"

namespace dormouse::engine {

class Leases {
 public:
  // Whether opening for reading may break one, of whatever device. They are read when this is asked for the first time.
  [[nodiscard]] Result<bool> broken_by_reading(ino_t inode);

 private:
  std::optional<std::vector<std::uint64_t>> inodes_;
};

}  // namespace dormouse::engine
