#include "engine/files/owner.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/format.h"
#include "engine/tree.h"
#include "images/schema/owner.pb.h"
#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

#ifndef F_GETOWNER_UIDS
constexpr int F_GETOWNER_UIDS = 17;
#endif

pid_t group_in_image(pid_t group, const Tree& tree) {
  for (const auto& task : tree.tasks)
    if (::getpgid(task->pid) == group) return task->ns_pgid;
  return 0;
}

pid_t thread_in_image(pid_t tid, const Tree& tree) {
  for (const auto& task : tree.tasks)
    for (const Thread& thread : task->threads)
      if (thread.tid == tid) return thread.ns_tid;
  return 0;
}

// fcntl(F_SETOWN_EX) stores the caller's uids with the owner, and there is no other way to set them.
// A child takes them on, since it cannot hurt the engine's capabilities; the open file is shared.
Result<> set_owner_as(int fd, const ::f_owner_ex& owner, uid_t uid, uid_t euid) {
  const pid_t child = TRY(sys::clone3({.exit_signal = SIGCHLD}));
  if (child == 0) {
    // Raw calls: the C library's would synchronise threads that do not exist in this copy.
    if (::syscall(SYS_setresuid, uid, euid, -1) != 0) ::_exit(errno);
    ::_exit(::fcntl(fd, F_SETOWN_EX, &owner) == 0 ? 0 : errno);
  }
  const auto outcome = TRY(sys::waitid(P_PID, static_cast<id_t>(child), WEXITED));
  if (outcome->code != CLD_EXITED || outcome->status != 0)
    return fail(Error::kernel(format("fcntl(F_SETOWN_EX, {}) as uid {}", owner.pid, euid),
                              outcome->code == CLD_EXITED ? outcome->status : EINTR));
  return {};
}

}  // namespace

std::optional<pid_t> pid_in_image(const Tree& tree, pid_t pid) {
  for (const auto& task : tree.tasks)
    if (task->pid == pid) return task->ns_pid;
  return std::nullopt;
}

Result<FileOwner> read_owner(int fd) {
  FileOwner owner;
  owner.signal = TRY(sys::fcntl(fd, F_GETSIG));
  ::f_owner_ex found{};
  TRY(sys::fcntl_pointer(fd, F_GETOWN_EX, &found));
  if (found.pid == 0) return owner;
  owner.pid_type = found.type;
  owner.pid = found.pid;
  uid_t uids[2] = {};
  // EINVAL: a kernel without CONFIG_CHECKPOINT_RESTORE does not tell.
  if (auto told = sys::fcntl_pointer(fd, F_GETOWNER_UIDS, uids); told) {
    owner.uid = uids[0];
    owner.euid = uids[1];
  } else if (!told.error().is_kernel(EINVAL)) {
    return fail(std::move(told).error());
  }
  return owner;
}

void owner_to_image(const FileOwner& owner, const Tree& tree, pb::fown_entry* entry) {
  entry->set_signum(static_cast<std::uint32_t>(owner.signal));
  const pid_t pid = owner.pid == 0                     ? 0
                    : owner.pid_type == F_OWNER_PGRP ? group_in_image(owner.pid, tree)
                                                       : thread_in_image(owner.pid, tree);
  entry->set_pid(static_cast<std::uint32_t>(pid));
  entry->set_pid_type(pid != 0 ? static_cast<std::uint32_t>(owner.pid_type) : 0);
  entry->set_uid(pid != 0 ? owner.uid : 0);
  entry->set_euid(pid != 0 ? owner.euid : 0);
}

Result<> set_owner(int fd, const pb::fown_entry& entry, const PidLookup& lookup) {
  if (entry.signum() != 0) TRY(sys::fcntl(fd, F_SETSIG, static_cast<long>(entry.signum())));
  if (entry.pid() == 0) return {};
  const pid_t pid = lookup ? lookup(static_cast<pid_t>(entry.pid())) : 0;
  if (pid == 0)
    return fail(Error::corrupt(format("its signals go to pid {}, which is not in the image", entry.pid())));
  const ::f_owner_ex owner{static_cast<__pid_type>(entry.pid_type()), pid};
  if (entry.uid() == ::getuid() && entry.euid() == ::geteuid()) {
    ::f_owner_ex mine = owner;
    TRY(sys::fcntl_pointer(fd, F_SETOWN_EX, &mine));
    return {};
  }
  return set_owner_as(fd, owner, entry.uid(), entry.euid());
}

}  // namespace dormouse::engine
