// Waiting for threads that the engine traces: for ptrace stops, and for programs to end.
//
// The keeper also owns the engine's robust futex list. Every cell's word is on it, so that the kernel
// marks and wakes all held threads when the engine dies in whatever way.
//
// One keeper per process at a time: it owns the SIGCHLD handler and the thread's robust list, and it
// collects the wait statuses of all children while it waits.
#pragma once

#include <linux/futex.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "parasite/blob/protocol.h"

namespace dormouse::parasite {

using Deadline = std::chrono::steady_clock::time_point;
inline Deadline within(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }

// A ptrace stop: the wait status as waitpid() gives it.
struct Stop {
  int status = 0;
  int signal() const { return (status >> 8) & 0xff; }
  int event() const { return status >> 16; }
};

class Keeper {
 public:
  static Result<std::unique_ptr<Keeper>> create();
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  ~Keeper();

  // The value of an idle cell's word is this with FUTEX_WAITERS.
  std::uint32_t owner() const { return owner_; }
  void enlist(blob::Cell& cell);
  void dismiss(blob::Cell& cell);

  // Lets the thread that waits in the cell see its command. In one system call: an engine that died between
  // clearing FUTEX_WAITERS and waking would leave the thread asleep for ever, since the kernel wakes on a dead
  // owner's behalf only where that bit is set.
  static void hand_work(blob::Cell& cell);

  // Stops of `tid` are kept for wait_stop() from now on, instead of being answered at once.
  void expect_stops(pid_t tid) { awaited_.insert(tid); }
  void ignore_stops(pid_t tid) {
    awaited_.erase(tid);
    stops_.erase(tid);
  }
  // The next stop of a thread named by expect_stops(). kTaskDied if it ends instead.
  Result<Stop> wait_stop(pid_t tid, Deadline deadline);
  // Until *word is no longer `seen`. kTaskDied if `tid` ends first.
  [[nodiscard]] Result<> wait_word(const std::uint32_t& word, std::uint32_t seen, pid_t tid,
                                   Deadline deadline);

  bool died(pid_t tid) const { return dead_.contains(tid); }
  void forget(pid_t tid);
  // Threads that a SIGSTOP reached while they were held: it was held back, to be sent again on release.
  bool was_stopped_meanwhile(pid_t tid) const { return stop_signals_.contains(tid); }

 private:
  Keeper() = default;
  void collect();                     // every wait status there is, without waiting
  void answer(pid_t tid, int status);  // of a thread that should be running
  [[nodiscard]] Result<> sleep(const std::uint32_t* word, std::uint32_t seen, std::uint32_t events,
                               Deadline deadline);

  robust_list_head list_{};
  std::uint32_t owner_ = 0;
  std::uint32_t collected_ = 0;  // child events seen so far
  std::unordered_set<pid_t> awaited_, dead_, stop_signals_;
  std::unordered_map<pid_t, Stop> stops_;
};

}  // namespace dormouse::parasite
