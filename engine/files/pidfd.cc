#include "engine/files/pidfd.h"

#include <fcntl.h>

#include <algorithm>
#include <optional>

#include "base/format.h"
#include "base/text.h"
#include "engine/files/former_process.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/saver.h"
#include "images/schema/files.pb.h"
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

// Those of one process that is gone are opened together, while there is one that stands for it.
Result<> PidFile::open_dead(std::uint32_t inode, FilesOpener& opener) {
  const FormerProcess process = TRY(FormerProcess::create(0, opener.root_task()));
  for (const auto& [id, record] : opener.context().image.files) {
    if (record.type() != pb::PIDFD || record.pidfd().nspid() != kGone || record.pidfd().ino() != inode) continue;
    dead_.emplace(id, TRY(sys::pidfd_open(process.pid(), record.pidfd().flags() & kOpenFlags)));
  }
  return {};
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
