// One open file as the engine finds it: in a task's descriptor table, or behind a magic link of
// /proc/PID ("exe", "cwd", "map_files/…"). Facts only; what to make of them is up to the file kinds.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"
#include "engine/files/owner.h"
#include "engine/tree.h"
#include "kernel/proc/fdinfo.h"

namespace dormouse::engine {

struct OpenFile {
  const Task* task = nullptr;
  int number = -1;         // in the task's table; -1: found behind a magic link
  std::string proc_link;   // "exe", "cwd", … ; empty for a descriptor
  Fd fd;                   // the engine's: a duplicate, or O_PATH for a magic link
  struct stat stat {};
  std::int64_t fs_type = 0;     // f_type of statfs
  std::string link;             // what readlink says: a path of the mount namespace, "pipe:[7]", …
  std::uint64_t pos = 0;
  std::uint32_t flags = 0;      // O_*, without O_CLOEXEC
  bool close_on_exec = false;
  // The executable of a task: the kernel has it open for reading, so that nobody can have a lease that another such
  // opening would break (fs/locks.c: check_conflicting_open).
  bool executed = false;
  // A mapped file: where the task has the first bytes of it in its memory, as they are in the file; no bytes: nowhere.
  std::uint64_t beginning_at = 0, beginning_bytes = 0;
  int mount_id = -1;
  bool carried = false;         // by a message, to `task`, which does not have it yet
  int socket_family = 0;        // AF_*; 0: no socket
  FileOwner owner;
  proc::FdInfo info;            // empty for a magic link

  bool path_only() const { return (flags & O_PATH) != 0; }
  // The number behind "KEY:" in /proc/PID/fdinfo/N.
  std::optional<std::uint64_t> number_in_fdinfo(std::string_view key, int base) const;
  int access_mode() const { return static_cast<int>(flags & O_ACCMODE); }
  // "descriptor 7 -> /var/log/x"
  std::string object() const;
  // A complete blocker: this object, its owner, and the given reason and remedy.
  Error blocked(std::string reason, std::string remedy) const;
  // The failure of a step on this file, with object and owner added.
  Error failed(Error error) const;
};

Result<OpenFile> examine_descriptor(const Task& task, int number);
// `flags`: what the entry is going to say it was opened with.
Result<OpenFile> examine_link(const Task& task, const std::string& proc_link, int flags);

}  // namespace dormouse::engine
