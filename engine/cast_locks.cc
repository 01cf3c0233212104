// Cast: locks on files.

#include <errno.h>
#include <fcntl.h>

#include "base/format.h"
#include "engine/cast.h"
#include "engine/files/file_locks.h"
#include "engine/files/user_maps.h"
#include "kernel/file.h"

namespace dormouse::engine {

// When all tables are complete. Each by the task that had it: the kernel remembers which one that was.
Result<> Cast::take_locks() {
  if (context_.image.locks.empty()) return {};
  const Fd root = TRY(sys::openat(AT_FDCWD, format("/proc/{}", root_pid_), O_PATH | O_DIRECTORY));
  const UserMaps ids = TRY(UserMaps::of(root.get()));
  for (const pb::file_lock_entry& lock : context_.image.locks) {
    const parasite::Puppet& holder = *by_number_.at(lock.pid());
    const std::uint32_t file_id = file_of_lock(lock, context_.image);
    const int fd = TRY(files_->open(file_id));
    const auto status = TRY(sys::fstat(fd));
    const std::string path = TRY(sys::readlinkat(AT_FDCWD, format("/proc/self/fd/{}", fd)));
    const bool writable = (TRY(sys::fcntl(fd, F_GETFL)) & O_ACCMODE) != O_RDONLY;
    parasite::Program program;
    append_lock(program, lock, path, ids.uids.inside(status.st_uid), writable);
    if (const auto ran = yard_->run(holder, program); !ran) {
      if (!ran.error().is_kernel(EAGAIN)) return fail(ran.error());
      return fail(Error::conflict("somebody else has locked or opened the file meanwhile", EAGAIN)
                      .object(format("lock on {}", path)).owner(holder.name).remedy("see /proc/locks, and end who has it"));
    }
    if (lock.flag() != kLease) continue;
    const auto settle = [&]() -> Result<> {
      if (lock.type() & kLeaseBreaking) TRY(break_lease(fd, lock));
      return files_->set_owner_again(file_id);
    };
    TRY_OR(settle(), std::move(e).object(format("lease on {}", path)).owner(holder.name));
  }
  return {};
}

}  // namespace dormouse::engine
