// Files that the engine must not open, since somebody has a lease on them that opening would break.
//
// The kernel tells of all leases of the machine at once, in /proc/locks, and takes its time: the reader sleeps for a grace period
// of RCU (percpu_down_write() in locks_start(), fs/locks.c), some 10 ms, in which the engine had better do something else.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <future>
#include <vector>

#include "base/error.h"

namespace dormouse::engine {

class Leases {
 public:
  // Lets another thread read them, as they are from now on. The last copy of this object waits for it in its destructor.
  void begin_to_read();
  // Whether opening for reading may break one, of whatever device. Reads them now if nobody has begun to.
  [[nodiscard]] Result<bool> broken_by_reading(ino_t inode);

 private:
  std::shared_future<Result<std::vector<std::uint64_t>>> inodes_;
};

}  // namespace dormouse::engine
