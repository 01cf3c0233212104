#include "engine/files/leases.h"

#include <fcntl.h>

#include <algorithm>

#include "base/signals.h"
#include "kernel/file.h"
#include "kernel/proc/locks.h"

namespace dormouse::engine {
namespace {

Result<std::vector<std::uint64_t>> read_leases() {
  return proc::parse_leases_against_reading(TRY(sys::read_file(AT_FDCWD, "/proc/locks")));
}

}  // namespace

void Leases::begin_to_read() {
  const AllSignalsBlocked blocked;
  // Without a launch policy: where no thread can be had, who asks reads them.
  inodes_ = std::async(read_leases).share();
}

Result<bool> Leases::broken_by_reading(ino_t inode) {
  if (!inodes_.valid()) inodes_ = std::async(std::launch::deferred, read_leases).share();
  const auto& inodes = inodes_.get();
  if (!inodes) return fail(inodes.error());
  return std::ranges::find(*inodes, inode) != inodes->end();
}

}  // namespace dormouse::engine
