#include "engine/files/leases.h"

#include <fcntl.h>

#include <algorithm>

#include "kernel/file.h"
#include "kernel/proc/locks.h"

namespace dormouse::engine {

Result<bool> Leases::broken_by_reading(ino_t inode) {
  if (!inodes_) inodes_ = TRY(proc::parse_leases_against_reading(TRY(sys::read_file(AT_FDCWD, "/proc/locks"))));
  return std::ranges::find(*inodes_, inode) != inodes_->end();
}

}  // namespace dormouse::engine
