#include "engine/files/namespace_file.h"

#include <fcntl.h>
#include <linux/magic.h>

#include <algorithm>

#include "base/format.h"
#include "engine/files/open_file.h"
#include "engine/files/opener.h"
#include "engine/files/saver.h"
#include "images/schema/files.pb.h"
#include "images/schema/task.pb.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

bool is_number_of_a_task(const FilesSaver& saver, const NamespaceKind& kind, std::uint32_t number) {
  const NamespacesDump& known = *saver.context().namespaces;
  return std::ranges::any_of(saver.context().tree.tasks,
                             [&](const auto& task) { return known.ids_of(*task).*kind.id == number; });
}

}  // namespace

const NamespaceKind* namespace_kind_of_link(std::string_view link) {
  for (const NamespaceKind& kind : kNamespaceKinds)
    if (link.starts_with(format("{}:[", kind.name))) return &kind;
  return nullptr;
}

std::uint32_t namespace_number(const pb::task_kobj_ids_entry& ids, std::uint64_t flag) {
  switch (flag) {
    case CLONE_NEWPID: return ids.pid_ns_id();
    case CLONE_NEWNET: return ids.net_ns_id();
    case CLONE_NEWIPC: return ids.ipc_ns_id();
    case CLONE_NEWUTS: return ids.uts_ns_id();
    case abi::kCloneNewTime: return ids.time_ns_id();
    case CLONE_NEWNS: return ids.mnt_ns_id();
    case CLONE_NEWUSER: return ids.user_ns_id();
    case CLONE_NEWCGROUP: return ids.cgroup_ns_id();
    default: return 0;
  }
}

int NamespaceFile::type() const { return pb::NS; }

bool NamespaceFile::matches(const OpenFile& file) const {
  return file.fs_type == NSFS_MAGIC && namespace_kind_of_link(file.link) != nullptr;
}

Result<> NamespaceFile::save(const OpenFile& file, std::uint32_t id, FilesSaver& saver) {
  const NamespaceKind& kind = *namespace_kind_of_link(file.link);
  const NamespacesDump* const known = saver.context().namespaces;
  const std::uint32_t number = known != nullptr ? known->id_of_inode(file.stat.st_ino) : 0;
  // The node's own have a number too.
  if (number == 0 || !is_number_of_a_task(saver, kind, number))
    return fail(file.blocked(format("is a {} namespace that none of the tasks lives in", kind.name), "close it before the checkpoint"));
  pb::file_entry record;
  record.set_type(pb::NS);
  record.set_id(id);
  pb::ns_file_entry* entry = record.mutable_nsf();
  entry->set_id(id);
  entry->set_ns_id(number);
  entry->set_ns_cflag(static_cast<std::uint32_t>(kind.flag));
  entry->set_flags(file.flags);
  return saver.write(record);
}

Result<Fd> NamespaceFile::open(const pb::file_entry& record, FilesOpener& opener) {
  const pb::ns_file_entry& entry = record.nsf();
  const auto kind = std::ranges::find(kNamespaceKinds, entry.ns_cflag(), &NamespaceKind::flag);
  const std::string object = format("namespace of open file {}", record.id());
  if (kind == kNamespaceKinds.end())
    return fail(Error::corrupt(format("{:x} is no kind of namespace", entry.ns_cflag())).object(object));
  for (const ImageTask& task : opener.context().image.tasks) {
    if (!task.alive() || entry.ns_id() == 0 || namespace_number(task.ids, kind->flag) != entry.ns_id()) continue;
    const pid_t pid = opener.pid_of(static_cast<pid_t>(task.tree.pid()));
    // Nothing but this can be said about such an open file.
    const int flags = static_cast<int>(entry.flags() & (O_PATH | O_NONBLOCK));
    return TRY_OR(sys::openat(AT_FDCWD, format("/proc/{}/ns/{}", pid, kind->name), flags | O_RDONLY),
                  std::move(e).object(object));
  }
  return fail(Error::corrupt(format("no task lives in {} namespace {}", kind->name, entry.ns_id())).object(object));
}

}  // namespace dormouse::engine
