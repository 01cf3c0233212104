// Which namespaces a tree has of its own, their identities, and their contents (uts, ipc, time, user,
// net as far as it is not left to the runtime).
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "engine/dump_context.h"
#include "engine/ipc/system_v.h"
#include "engine/restore_context.h"

namespace dormouse::engine {

// Numbers for ids-PID.img: the same for the same namespace, counted from 1 over all kinds; 0: this kernel has no
// such kind. A namespace that the engine itself lives in also has a number (the reference stores them
// all), but is not saved.
struct NamespaceIds {
  std::uint32_t pid = 0, net = 0, ipc = 0, uts = 0, mnt = 0, user = 0, cgroup = 0, time = 0;
};

class NamespacesDump {
 public:
  // Reads /proc/PID/ns of the engine and of every task that is alive. Tasks in another namespace than the root
  // task become blockers.
  static Result<NamespacesDump> identify(DumpContext& context);
  // Zombies have none: all zero.
  const NamespaceIds& ids_of(const Task& task) const;
  // The engine's own, for inventory.img.
  const NamespaceIds& outside() const { return outside_; }
  // CLONE_NEW* bits of the kinds in which the root task is not in the engine's own namespace.
  std::uint64_t own() const { return own_; }
  // The number of the namespace with this inode number in /proc/PID/ns/*, if a task (or the engine) lives in it.
  std::uint32_t id_of_inode(std::uint64_t inode) const;
  // utsns, ipcns, userns, pidns, netns images. External namespaces (options.externals
  // "net[INODE]:key", "pid[INODE]:key") are recorded, not saved. What cannot be saved becomes a blocker.
  [[nodiscard]] Result<> save(DumpContext& context);
  // timens image. When all timers have been asked: a timer goes on with what was left of it then, and must not expire before the
  // clock that goes on from here tells its time.
  [[nodiscard]] Result<> save_clocks(DumpContext& context) const;
  // System V shared memory of the tree's own IPC namespace; after save().
  const std::vector<SavedSegment>& segments() const { return segments_; }

 private:
  friend class NamespaceCounter;
  std::uint64_t own_ = 0;
  NamespaceIds outside_;
  std::vector<std::pair<const Task*, NamespaceIds>> ids_;
  std::vector<std::pair<std::uint64_t, std::uint32_t>> inodes_;
  std::vector<SavedSegment> segments_;
};

// Restore: which CLONE_NEW* flags the root task is created with, and which namespaces are entered instead
// (options.join_namespaces, inherited external namespaces), from the image and the options.
struct NamespaceContents;
struct NamespacePlan {
  NamespacePlan();
  NamespacePlan(NamespacePlan&&) noexcept;
  NamespacePlan& operator=(NamespacePlan&&) noexcept;
  ~NamespacePlan();
  // CLONE_NEWTIME is special: unshare() it, write_time_offsets(), then clone. It is there whenever the clocks
  // were saved, so that monotonic time goes on from where it was, own time namespace or not.
  std::uint64_t create = 0;
  // setns() to these before the clone, in this order. Owned by the plan.
  std::vector<std::pair<Fd, std::uint64_t /*CLONE_NEW flag*/>> enter;
  // What fill_namespaces() writes, read beforehand: from inside a user namespace, the images may be out of reach.
  std::unique_ptr<NamespaceContents> contents;
};
Result<NamespacePlan> plan_namespaces(const RestoreContext& context);

// Runs in the process that is going to be the root task, inside its new namespaces, before mounts (the node's
// /proc is still there) and after its user maps: becomes root of a new user namespace, then host name, ipc limits,
// loopback up as saved.
[[nodiscard]] Result<> fill_namespaces(const RestoreContext& context, const NamespacePlan& plan);

// user namespace maps are written from outside, by the engine, to /proc/PID/{uid_map,gid_map,setgroups}.
[[nodiscard]] Result<> write_user_maps(const RestoreContext& context, pid_t pid);
// Offsets for the time namespace of children, to /proc/self/timens_offsets after unshare(CLONE_NEWTIME). As short
// as possible before the tasks run again.
[[nodiscard]] Result<> write_time_offsets(const RestoreContext& context);

}  // namespace dormouse::engine
