#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/format.h"
#include "base/parallel.h"
#include "engine/namespaces/kinds.h"
#include "engine/namespaces/namespaces.h"
#include "kernel/file.h"

namespace dormouse::engine {

namespace {

// What /proc says of a task's namespaces. 0: this kernel does not know the kind.
struct NamespaceInodes {
  std::uint64_t of[std::size(kNamespaceKinds)] = {};
  // Pid and time namespaces come in force for children first; somebody in between cannot be saved.
  std::uint64_t pid_of_children = 0, time_of_children = 0;

  std::uint64_t of_kind(std::string_view name) const {
    const auto kind = std::ranges::find(kNamespaceKinds, name, [](const auto& one) { return one.name; });
    return of[kind - std::begin(kNamespaceKinds)];
  }
};

Result<std::uint64_t> inode_of(int proc, const std::string& name) {
  const auto stat = sys::fstatat(proc, name);
  if (stat) return stat->st_ino;
  if (stat.error().is_kernel(ENOENT)) return 0;
  return fail(stat.error());
}

// `proc`: a directory /proc/PID.
Result<NamespaceInodes> read_inodes(int proc) {
  NamespaceInodes inodes;
  for (std::size_t i = 0; i < std::size(kNamespaceKinds); ++i)
    inodes.of[i] = TRY(inode_of(proc, format("ns/{}", kNamespaceKinds[i].name)));
  inodes.pid_of_children = TRY(inode_of(proc, "ns/pid_for_children"));
  inodes.time_of_children = TRY(inode_of(proc, "ns/time_for_children"));
  return inodes;
}

}  // namespace

class NamespaceCounter {
 public:
  explicit NamespaceCounter(NamespacesDump& dump) : dump_(dump) {}

  NamespaceIds ids_of(const NamespaceInodes& inodes) {
    NamespaceIds ids;
    for (std::size_t i = 0; i < std::size(kNamespaceKinds); ++i)
      if (inodes.of[i]) ids.*kNamespaceKinds[i].id = number(inodes.of[i]);
    return ids;
  }

 private:
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

namespace {

// CLONE_NEW* bits of the kinds in which they are not the same.
std::uint64_t differing(const NamespaceIds& one, const NamespaceIds& other) {
  std::uint64_t kinds = 0;
  for (const auto& kind : kNamespaceKinds)
    if (one.*kind.id != other.*kind.id) kinds |= kind.flag;
  return kinds;
}

void refuse_those_between(const Task& task, const NamespaceInodes& inodes, Blockers& blockers) {
  const auto check = [&](const char* kind, std::uint64_t of_children) {
    if (of_children == inodes.of_kind(kind)) return;
    blockers.add(Error::unsupported("its children would live in another one").object(format("{} namespace", kind))
                     .owner(task.name()).remedy("not supported"));
  };
  check("pid", inodes.pid_of_children);
  check("time", inodes.time_of_children);
}

void refuse_others_than(const Task& root, std::uint64_t kinds, const Task& task, Blockers& blockers) {
  for (const auto& kind : kNamespaceKinds)
    if (kinds & kind.flag)
      blockers.add(Error::unsupported(format("it is not that of the root task, {}", root.name()))
                       .object(format("{} namespace", kind.name)).owner(task.name())
                       .remedy("namespaces within the tree are not supported"));
}

}  // namespace

Result<NamespacesDump> NamespacesDump::identify(DumpContext& context) {
  const auto& tasks = context.tree.tasks;
  std::vector<NamespaceInodes> inodes(tasks.size());
  TRY(in_parallel(tasks.size(), [&](std::size_t i) -> Result<> {
    if (!tasks[i]->alive()) return {};
    inodes[i] = TRY_OR(read_inodes(tasks[i]->proc.get()), std::move(e).object("namespaces").owner(tasks[i]->name()));
    return {};
  }));

  NamespacesDump dump;
  NamespaceCounter counter(dump);
  const Fd self = TRY(sys::openat(AT_FDCWD, "/proc/self", O_RDONLY | O_DIRECTORY));
  dump.outside_ = counter.ids_of(TRY(read_inodes(self.get())));
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    if (!tasks[i]->alive()) continue;
    refuse_those_between(*tasks[i], inodes[i], context.blockers);
    const NamespaceIds ids = counter.ids_of(inodes[i]);
    if (i == 0) dump.own_ = differing(ids, dump.outside_);
    else refuse_others_than(context.tree.root(), differing(ids, dump.ids_.front().second), *tasks[i], context.blockers);
    dump.ids_.emplace_back(tasks[i].get(), ids);
  }
  return dump;
}

}  // namespace dormouse::engine
