// Which namespaces a tree has of its own, their identities, and their contents (uts, ipc, time, user,
// net as far as it is not left to the runtime).
#pragma once

#include <cstdint>
#include <vector>

#include "engine/dump_context.h"
#include "engine/restore_context.h"

namespace dormouse::engine {

// Numbers for ids-PID.img: the same for the same namespace. A namespace that the engine itself lives in
// also has a number (the reference stores them all), but is not saved.
struct NamespaceIds {
  std::uint32_t pid = 0, net = 0, ipc = 0, uts = 0, mnt = 0, user = 0, cgroup = 0, time = 0;
};

class NamespacesDump {
 public:
  // Reads /proc/PID/ns of every task. Tasks of one tree in different namespaces of a kind are blockers,
  // except where the reference can save them (nested net, mount … as documented in the .cc).
  static Result<NamespacesDump> identify(DumpContext& context);
  const NamespaceIds& ids_of(const Task& task) const;
  // CLONE_NEW* bits of the kinds in which the root task is not in the engine's own namespace.
  std::uint64_t own() const { return own_; }
  // utsns, ipcns-var, timens, userns, pidns, netns images. External namespaces (options.externals
  // "net[INODE]:key", "pid[INODE]:key") are recorded, not saved.
  [[nodiscard]] Result<> save(DumpContext& context);

 private:
  std::uint64_t own_ = 0;
  std::vector<std::pair<const Task*, NamespaceIds>> ids_;
};

// Restore: which CLONE_NEW* flags the root task is created with, which namespaces are entered instead
// (options.join_namespaces, inherited external namespaces: descriptors to setns() to before the
// clone), from the image and the options.
struct NamespacePlan {
  std::uint64_t create = 0;
  std::vector<std::pair<int /*fd*/, std::uint64_t /*CLONE_NEW flag*/>> enter;
};
Result<NamespacePlan> plan_namespaces(const RestoreContext& context);

// Runs in the process that is going to be the root task, inside its new namespaces, before mounts:
// host name, ipc sysctls, loopback up as saved, time offsets are set before the clone by the caller.
[[nodiscard]] Result<> fill_namespaces(const RestoreContext& context, const NamespacePlan& plan);

// user namespace maps are written from outside, by the engine, to /proc/PID/{uid_map,gid_map,setgroups}.
[[nodiscard]] Result<> write_user_maps(const RestoreContext& context, pid_t pid);
// Offsets for the time namespace of children, to /proc/self/timens_offsets after unshare(CLONE_NEWTIME).
[[nodiscard]] Result<> write_time_offsets(const RestoreContext& context);

}  // namespace dormouse::engine
