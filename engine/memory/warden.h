// The warden: a small process that keeps page tracking alive from one dump to the next.
//
// Write protection lasts as long as its userfaultfd, and the engine's process ends with each dump; a
// descriptor left in the tasks would be seen by them, inherited by their children and closed by the next
// close_range(). So a process of its own, in nobody's way, holds the descriptors: it has no parent, no
// session, no directory and no other descriptors, sleeps until the tasks end, and ends with the last of them. If it is
// killed, tracking is gone with it, which the next dump sees: then all pages count as written.
//
// With them it holds a record: which tasks, and since which set of images they are tracked. Engines read it
// through the warden's descriptors; it is a hint for finding things, and believed only where the images say
// the same.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace dormouse::engine {

struct TrackedTask {
  pid_t pid = 0;  // as the engine sees it
  std::uint64_t start_time_ticks = 0;  // with the pid an identity
  Fd pidfd;
  Fd userfaultfd;  // none: soft-dirty bits need none
};

// A thread that was stopped in a wait which the kernel continues by itself (restart_syscall): when it is stopped again,
// nothing says any more which call it was, and a restored thread has to make that call anew.
struct InterruptedCall {
  std::int32_t tid = 0, number = 0;
  std::uint64_t instruction = 0, stack = 0, argument = 0;

  bool same_place(const InterruptedCall& other) const {
    return tid == other.tid && instruction == other.instruction && stack == other.stack && argument == other.argument;
  }
};

class Warden {
 public:
  // All that run in this engine's surroundings (user and pid namespace, user). The tasks' descriptors are not
  // fetched yet. Those that vanish meanwhile or make no sense are left out.
  static std::vector<Warden> find_all();
  // Starts one for these tasks, tracked since the images `generation`. The descriptors stay the caller's, too.
  [[nodiscard]] static Result<> start(const std::string& generation, const std::vector<TrackedTask>& tasks,
                                      const std::vector<InterruptedCall>& calls);

  // Since which images; empty: unknown, all pages must count as written.
  const std::string& generation() const { return generation_; }
  const std::vector<InterruptedCall>& calls() const { return calls_; }
  bool tracks(pid_t pid, std::uint64_t start_time_ticks) const;
  // A duplicate of a task's descriptor; none if it needs none.
  Result<Fd> userfaultfd(pid_t pid, std::uint64_t start_time_ticks) const;
  // Before the first page's mark is taken: from now on nobody believes the record, whatever becomes of us.
  [[nodiscard]] Result<> invalidate();
  // Ends it and waits for that.
  [[nodiscard]] Result<> end();

 private:
  struct Entry {
    pid_t pid;
    std::uint64_t start_time_ticks;
    int userfaultfd;  // number in the warden
  };
  const Entry* entry(pid_t pid, std::uint64_t start_time_ticks) const;
  static Result<Warden> open(pid_t pid);

  Fd pidfd_, record_;
  std::string generation_;
  std::vector<Entry> entries_;
  std::vector<InterruptedCall> calls_;
};

}  // namespace dormouse::engine
