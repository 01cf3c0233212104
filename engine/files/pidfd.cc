#include "engine/files/pidfd.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "base/format.h"
#include "base/text.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/saver.h"
#include "images/schema/files.pb.h"
#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

constexpr std::uint32_t kThread = O_EXCL;  // PIDFD_THREAD, Linux 6.9
constexpr std::int32_t kGone = -1;         // as fdinfo says it, and the image

// What pidfd_open() knows; the other flags of the open file are set by fcntl().
constexpr std::uint32_t kOpenFlags = kThread | O_NONBLOCK;

std::optional<pid_t> number_in_image(const Tree& tree, pid_t pid) {
  for (const auto& task : tree.tasks)
    for (const Thread& thread : task->threads)
      if (thread.tid == pid) return thread.ns_tid;
  return pid_in_image(tree, pid);
}

// The process that all its descriptors stand for: an inode each in pidfs (Linux 6.9). Before, all have one inode, and
// nothing tells descriptors of different processes that are gone from each other.
std::uint32_t inode_in_image(const OpenFile& file) { return static_cast<std::uint32_t>(file.stat.st_ino); }

// A child of ours among the tasks: one that was never in their pid namespace is not gone for them, but invalid (EINVAL
// instead of ESRCH from pidfd_send_signal()).
Result<pid_t> born_and_ended(int root_task) {
  const Fd own = TRY(sys::openat(AT_FDCWD, "/proc/self/ns/pid", O_RDONLY));
  TRY(sys::setns(root_task, CLONE_NEWPID));
  const Result<pid_t> pid = sys::clone3({.exit_signal = SIGCHLD});
  if (pid && *pid == 0) ::_exit(0);
  TRY(sys::setns(own.get(), CLONE_NEWPID));
  return pid;
}

}  // namespace

int PidFile::type() const { return pb::PIDFD; }

bool PidFile::matches(const OpenFile& file) const { return file.link == "anon_inode:[pidfd]"; }

Result<> PidFile::save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) {
  const auto text = file.info.value("Pid");
  const auto pid = text ? parse_number<pid_t>(*text) : std::nullopt;
  if (!pid) return fail(file.blocked("is of a process that the kernel does not tell", "use a newer kernel"));
  std::optional<pid_t> number = kGone;
  if (*pid != kGone) number = number_in_image(saver.context().tree, *pid);
  // 0: the process is in no pid namespace that the engine sees.
  if (!number)
    return fail(file.blocked(*pid == 0 ? std::string("is of a process that cannot be seen from here")
                                       : format("is of process {}, which is not among the tasks", *pid),
                             "close it before the checkpoint, or dump a tree that has that process"));
  pb::file_entry record;
  record.set_type(pb::PIDFD);
  record.set_id(id);
  pb::pidfd_entry* entry = record.mutable_pidfd();
  entry->set_id(id);
  entry->set_ino(inode_in_image(file));
  entry->set_flags(file.flags & ~static_cast<std::uint32_t>(O_RDWR));
  entry->set_nspid(*number);
  saver.fill_owner(file, entry->mutable_fown());
  return saver.write(record);
}

// Those of one process that is gone are opened together: of a process that ends at once, and which can be found as
// long as nobody has collected it.
Result<> PidFile::open_dead(std::uint32_t inode, FilesOpener& opener) {
  const pid_t pid = TRY(born_and_ended(opener.root_task()));
  const auto open_all = [&]() -> Result<> {
    for (const auto& [id, record] : opener.context().image.files) {
      if (record.type() != pb::PIDFD || record.pidfd().nspid() != kGone || record.pidfd().ino() != inode) continue;
      dead_.emplace(id, TRY(sys::pidfd_open(pid, record.pidfd().flags() & kOpenFlags)));
    }
    return {};
  };
  const Result<> opened = open_all();
  TRY(sys::waitid(P_PID, static_cast<id_t>(pid), WEXITED));
  return opened;
}

Result<Fd> PidFile::open(const pb::file_entry& record, FilesOpener& opener) {
  const pb::pidfd_entry& entry = record.pidfd();
  const auto make = [&]() -> Result<Fd> {
    if (entry.nspid() == kGone) {
      if (!dead_.contains(record.id())) TRY(open_dead(entry.ino(), opener));
      const auto found = dead_.find(record.id());
      if (found == dead_.end()) return fail(Error::corrupt("its record has no number of its own"));
      return std::move(dead_.extract(found).mapped());
    }
    const pid_t pid = opener.pid_of(entry.nspid());
    if (pid == 0) return fail(Error::corrupt(format("it is of process {}, which is not in the image", entry.nspid())));
    return sys::pidfd_open(pid, entry.flags() & kOpenFlags);
  };
  const std::string object = format("pidfd of open file {}", record.id());
  Fd file = TRY_OR(make(), std::move(e).object(object));
  TRY_OR(opener.set_owner_and_flags(file.get(), entry.fown(), entry.flags()), std::move(e).object(object));
  return file;
}

}  // namespace dormouse::engine
