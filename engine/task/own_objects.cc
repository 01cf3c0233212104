#include "engine/task/own_objects.h"

#include <linux/capability.h>
#include <linux/kcmp.h>

#include <string_view>

#include "base/format.h"
#include "engine/namespaces/namespaces.h"
#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

// Those that one thread of several may change; the one of mounts only together with directories of its own.
constexpr struct {
  std::string_view name;
  std::uint32_t NamespaceIds::*id;
} kKinds[] = {{"net", &NamespaceIds::net}, {"uts", &NamespaceIds::uts}, {"ipc", &NamespaceIds::ipc},
              {"cgroup", &NamespaceIds::cgroup}, {"mnt", &NamespaceIds::mnt}};

Failure has_own(std::string what, const Thread& thread) {
  return fail(Error::unsupported("it does not share them with its process, and the image format has no place for that")
                  .object(format("{} of thread {}", what, thread.ns_tid)).remedy("not supported: let it share them"));
}

// A thread without CAP_SYS_ADMIN, and without a way to it, never had the right.
bool may_have_own_namespaces(const proc::Status& status) {
  return (status.cap_permitted | status.cap_bounding) & (std::uint64_t{1} << CAP_SYS_ADMIN);
}

Result<> refuse_own_namespaces(const DumpContext& context, const Task& task, const Thread& thread, bool own_directories) {
  const NamespaceIds& of_process = context.namespaces->ids_of(task);
  for (const auto& kind : kKinds) {
    if (of_process.*kind.id == 0 || (kind.name == "mnt" && !own_directories)) continue;
    const auto found = TRY(sys::fstatat(task.proc.get(), format("task/{}/ns/{}", thread.tid, kind.name)));
    if (context.namespaces->id_of_inode(found.st_ino) != of_process.*kind.id)
      return has_own(format("{} namespaces", kind.name), thread);
  }
  return {};
}

}  // namespace

Result<bool> has_own_directories(const DumpContext& context, const Task& task, const Thread& thread,
                                 const proc::Status& status) {
  if (TRY(sys::kcmp(task.agent(), thread.tid, KCMP_FILES, 0, 0)) != 0) return has_own("descriptors", thread);
  const bool own_directories = TRY(sys::kcmp(task.agent(), thread.tid, KCMP_FS, 0, 0)) != 0;
  if (context.namespaces != nullptr && may_have_own_namespaces(status))
    TRY(refuse_own_namespaces(context, task, thread, own_directories));
  return own_directories;
}

}  // namespace dormouse::engine
