#include "engine/task/own_objects.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/kcmp.h>

#include <string_view>

#include "base/format.h"
#include "base/text.h"
#include "engine/namespaces/namespaces.h"
#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

// Those that one thread of several may change; the one of mounts only together with directories of its own. (That of cgroups is
// compared with the root task's, for all threads of all: cgroups/save.h.)
constexpr struct {
  const char* name;
  std::uint32_t NamespaceIds::*id;
} kKinds[] = {{"net", &NamespaceIds::net}, {"uts", &NamespaceIds::uts}, {"ipc", &NamespaceIds::ipc},
              {"mnt", &NamespaceIds::mnt}};

Failure has_own(std::string what, const Thread& thread) {
  return fail(Error::unsupported("it does not share them with its process, and the image format has no place for that")
                  .object(format("{} of thread {}", what, thread.ns_tid)).remedy("not supported: let it share them"));
}

// A thread without CAP_SYS_ADMIN, and without a way to it, never had the right.
bool may_have_own_namespaces(const proc::Status& status) {
  return (status.cap_permitted | status.cap_bounding) & (std::uint64_t{1} << CAP_SYS_ADMIN);
}

// "net:[4026531840]"; 0: it says something else.
std::uint64_t inode_in(std::string_view link, std::string_view kind) {
  if (!link.starts_with(kind) || !link.ends_with("]") || !link.substr(kind.size()).starts_with(":[")) return 0;
  return parse_number<std::uint64_t>(link.substr(kind.size() + 2, link.size() - kind.size() - 3)).value_or(0);
}

// To read a link is cheaper than to follow it: for that the kernel makes an inode for the namespace.
Result<> refuse_own_namespaces(const DumpContext& context, const Task& task, const Thread& thread,
                               const proc::ProcDir& dir, bool own_directories) {
  const NamespaceIds& of_process = context.namespaces->ids_of(task);
  const Fd links = TRY(dir.open_at("ns", O_PATH));
  for (const auto& kind : kKinds) {
    if (of_process.*kind.id == 0 || (kind.id == &NamespaceIds::mnt && !own_directories)) continue;
    const std::string link = TRY(sys::readlinkat(links.get(), kind.name));
    if (context.namespaces->id_of_inode(inode_in(link, kind.name)) != of_process.*kind.id)
      return has_own(format("{} namespaces", kind.name), thread);
  }
  return {};
}

}  // namespace

Result<bool> has_own_directories(const DumpContext& context, const Task& task, const Thread& thread,
                                 const proc::ProcDir& dir, const proc::Status& status) {
  if (TRY(sys::kcmp(task.agent(), thread.tid, KCMP_FILES, 0, 0)) != 0) return has_own("descriptors", thread);
  const bool own_directories = TRY(sys::kcmp(task.agent(), thread.tid, KCMP_FS, 0, 0)) != 0;
  if (context.namespaces != nullptr && may_have_own_namespaces(status))
    TRY(refuse_own_namespaces(context, task, thread, dir, own_directories));
  return own_directories;
}

}  // namespace dormouse::engine
