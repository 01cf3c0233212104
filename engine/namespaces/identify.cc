#include <algorithm>
#include <string>

#include "base/format.h"
#include "engine/namespaces/kinds.h"
#include "engine/namespaces/namespaces.h"
#include "kernel/file.h"

namespace dormouse::engine {

class NamespaceCounter {
 public:
  explicit NamespaceCounter(NamespacesDump& dump) : dump_(dump) {}

  // `proc`: a directory /proc/PID.
  Result<NamespaceIds> ids_in(int proc) {
    NamespaceIds ids;
    for (const auto& kind : kNamespaceKinds) {
      const auto inode = TRY(inode_of(proc, format("ns/{}", kind.name)));
      if (inode) ids.*kind.id = number(inode);
    }
    return ids;
  }
  // Pid and time namespaces come in force for children first; somebody in between cannot be saved.
  Result<bool> children_differ(int proc, const char* kind) {
    const auto now = TRY(inode_of(proc, format("ns/{}", kind)));
    const auto next = TRY(inode_of(proc, format("ns/{}_for_children", kind)));
    return now != next;
  }

 private:
  // 0: this kernel does not know the kind.
  static Result<std::uint64_t> inode_of(int proc, const std::string& name) {
    const auto stat = sys::fstatat(proc, name);
    if (stat) return stat->st_ino;
    if (stat.error().is_kernel(ENOENT)) return 0;
    return fail(stat.error());
  }

  std::uint32_t number(std::uint64_t inode) {
    if (const std::uint32_t known = dump_.id_of_inode(inode)) return known;
    dump_.inodes_.emplace_back(inode, static_cast<std::uint32_t>(dump_.inodes_.size() + 1));
    return dump_.inodes_.back().second;
  }

  NamespacesDump& dump_;
};

std::uint32_t NamespacesDump::id_of_inode(std::uint64_t inode) const {
  const auto found = std::ranges::find(inodes_, inode, [](const auto& pair) { return pair.first; });
  return found == inodes_.end() ? 0 : found->second;
}

const NamespaceIds& NamespacesDump::ids_of(const Task& task) const {
  static constexpr NamespaceIds kNone;
  const auto found = std::ranges::find(ids_, &task, [](const auto& pair) { return pair.first; });
  return found == ids_.end() ? kNone : found->second;
}

Result<NamespacesDump> NamespacesDump::identify(DumpContext& context) {
  NamespacesDump dump;
  NamespaceCounter counter(dump);
  const Fd self = TRY(sys::openat(AT_FDCWD, "/proc/self", O_RDONLY | O_DIRECTORY));
  dump.outside_ = TRY(counter.ids_in(self.get()));

  const Task& root = context.tree.root();
  for (const auto& task : context.tree.tasks) {
    if (!task->alive()) continue;
    const NamespaceIds ids =
        TRY_OR(counter.ids_in(task->proc.get()), std::move(e).object("namespaces").owner(task->name()));
    for (const char* kind : {"pid", "time"})
      if (TRY(counter.children_differ(task->proc.get(), kind)))
        context.blockers.add(Error::unsupported("its children would live in another one")
                                 .object(format("{} namespace", kind))
                                 .owner(task->name())
                                 .remedy("not supported"));
    for (const auto& kind : kNamespaceKinds) {
      if (task.get() == &root) {
        if (ids.*kind.id != dump.outside_.*kind.id) dump.own_ |= kind.flag;
      } else if (ids.*kind.id != dump.ids_of(root).*kind.id) {
        context.blockers.add(Error::unsupported(format("it is not that of the root task, {}", root.name()))
                                 .object(format("{} namespace", kind.name))
                                 .owner(task->name())
                                 .remedy("namespaces within the tree are not supported"));
      }
    }
    dump.ids_.emplace_back(task.get(), ids);
  }
  return dump;
}

}  // namespace dormouse::engine
