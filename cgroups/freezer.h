// Stops everything in a cgroup from making progress, for as long as it takes to seize every task.
//
// The two versions differ. A v1 freezer holds a task until the group is thawed, whatever ptrace asks
// meanwhile; so the engine freezes (without waiting: what counts is that new tasks are born frozen),
// seizes and interrupts every task, and thaws: each one then runs into its ptrace stop. A v2 freezer
// holds a task in a stop that ptrace can take over; but such a task runs again only when the group is
// thawed, too. Either way: freeze(), threads(), seize, thaw(), look again.
//
// The state that was found is put back by finish(), by the destructor, and, if the engine is killed,
// by a watchdog process.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "kernel/watchdog.h"

namespace dormouse::cgroups {

class Freezer {
 public:
  enum class Version : unsigned char { kV1, kV2 };

  // `directory`: absolute path of a cgroup's directory, with freezer.state (v1) or cgroup.freeze (v2).
  static Result<Freezer> open(const std::string& directory);
  Freezer(Freezer&&) noexcept = default;
  Freezer& operator=(Freezer&&) = delete;
  ~Freezer();

  Version version() const { return version_; }
  // Whether somebody had frozen the group before us (it counts even while it is still freezing).
  bool was_frozen() const { return was_frozen_; }
  // Whether `group`, an open directory, is the group that this is about.
  bool is_of(int group) const;

  // Returns at once for v1; for v2 when the kernel reports the group frozen, or kUnsupported after
  // `timeout` (a task that cannot be stopped, for example in an uninterruptible wait).
  [[nodiscard]] Result<> freeze(std::chrono::milliseconds timeout);
  // An error if a parent group is frozen as well: nothing below it can run then.
  [[nodiscard]] Result<> thaw();

  // Thread ids of the group and all groups below it, as our pid namespace numbers them. While the group
  // is not frozen, or only freezing, the list may be out of date when it is returned.
  Result<std::vector<pid_t>> threads() const;
  Result<std::vector<pid_t>> processes() const;

  enum class Leave : unsigned char {
    kAsFound,  // before the tasks are let go, if they live on: a paused container never runs
    kThawed,   // the tasks are about to be killed: a v1 freezer would keep them from dying
  };
  [[nodiscard]] Result<> finish(Leave leave);

 private:
  Freezer() = default;
  Result<> set(bool frozen);
  Result<std::vector<pid_t>> list(const char* file) const;

  std::string path_;
  Fd directory_, state_;
  Version version_ = Version::kV1;
  bool was_frozen_ = false;
  bool is_frozen_ = false;  // as far as our own writing goes
  sys::Watchdog watchdog_;       // from our first change on
};

}  // namespace dormouse::cgroups
