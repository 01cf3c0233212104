// One process's (or thread's) directory in /proc, opened once; everything is read through it.
//
// The descriptor is an identity: once the process is gone it never shows another one of the same pid.
// All reads answer kTaskDied then.
#pragma once

#include <sys/types.h>

#include <array>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "kernel/file.h"
#include "kernel/proc/fdinfo.h"
#include "kernel/proc/maps.h"
#include "kernel/proc/mountinfo.h"
#include "kernel/proc/small.h"
#include "kernel/proc/smaps.h"
#include "kernel/proc/stat.h"
#include "kernel/proc/status.h"

namespace dormouse::proc {

class ProcDir {
 public:
  // `proc`: a directory descriptor of a proc mount (the caller's), or AT_FDCWD for "/proc".
  static Result<ProcDir> open(pid_t pid, int proc = AT_FDCWD);
  static Result<ProcDir> self();
  // task/TID, with the same files.
  Result<ProcDir> thread(pid_t tid) const;

  int fd() const { return fd_.get(); }
  pid_t pid() const { return pid_; }

  // Thread ids, ascending as the kernel lists them: the leader first.
  Result<std::vector<pid_t>> threads() const;
  // Children of one thread, or of all. The list is exact only while the parent does not fork or reap:
  // the kernel says so of task/TID/children.
  Result<std::vector<pid_t>> children(pid_t tid) const;
  Result<std::vector<pid_t>> children() const;
  // Ascending.
  Result<std::vector<int>> descriptors() const;

  Result<Status> status() const;
  Result<Stat> stat() const;
  Result<std::vector<Vma>> maps() const;
  Result<std::vector<Vma>> smaps(const WhileReading& work = {}) const;  // see read_smaps()
  Result<std::vector<MountInfo>> mountinfo() const;
  Result<FdInfo> fdinfo(int number) const;
  Result<std::vector<CgroupMembership>> cgroup() const;
  Result<std::vector<IdRange>> uid_map() const;
  Result<std::vector<IdRange>> gid_map() const;
  Result<TimeOffsets> timens_offsets() const;  // kUnsupported without CONFIG_TIME_NS
  Result<std::array<Limit, kLimitCount>> limits() const;
  Result<std::vector<std::uint64_t>> auxv() const;

  // Any other file, whole; `name` is relative: "oom_score_adj", "attr/current", "ns/net".
  Result<std::string> read(sys::Path name) const;
  Result<std::string> read_link(sys::Path name) const;
  Result<Fd> open_at(sys::Path name, int flags) const;

 private:
  ProcDir(Fd fd, pid_t pid) : fd_(std::move(fd)), pid_(pid) {}
  Failure died_or(Error error) const;

  Fd fd_;
  pid_t pid_;
};

}  // namespace dormouse::proc
