// Waiting for threads that the engine traces: for ptrace stops, and for programs to end.
//
// The keeper also owns the engine's robust futex lists. Every cell's word is on one, so that the kernel
// marks and wakes all held threads when the engine dies in whatever way. Kernel: a dying thread's list is
// walked for 2048 entries (ROBUST_LIST_LIMIT), what stands behind them would sleep for ever. The engine's own
// list takes that many; for each further so many cells there is a thread that does nothing but own a list.
//
// One keeper per process at a time: it owns the SIGCHLD handler and the thread's robust list, and it
// collects the wait statuses of all children while it waits.
#pragma once

#include <linux/futex.h>
#include <signal.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

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

// What the kernel sends to a thread for what that did, blocked or not.
inline constexpr std::array kFaultSignals = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};

// A signal that the kernel forced upon a thread for what it did.
struct Fault {
  int signal = 0;
  std::uint64_t address = 0;
};

class Keeper {
 public:
  static Result<std::unique_ptr<Keeper>> create();
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  ~Keeper();

  // Makes the cell idle: its word is the id of the list's owner with FUTEX_WAITERS. It must not be enlisted.
  [[nodiscard]] Result<> enlist(blob::Cell& cell);
  // Nothing if it is not enlisted.
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
  // Until *word is no longer `seen`. kTaskDied if `tid` ends first; EFAULT if it faults.
  [[nodiscard]] Result<> wait_word(const std::uint32_t& word, std::uint32_t seen, pid_t tid,
                                   Deadline deadline);

  // A serving thread that faulted stays in that stop, until it is told to go on, elsewhere.
  bool faulted(pid_t tid) const { return faults_.contains(tid); }
  [[nodiscard]] Result<> go_on_after_fault(pid_t tid);
  // Some thread faulted while it served. Where the signal was blocked, as it is for those who serve, the kernel has
  // set its action to the default one (force_sig_info_to_task).
  bool any_faulted() const { return any_faulted_; }

  // Threads that are held now: those whose stops are expected, and those that serve.
  std::size_t held() const { return awaited_.size() + places_.size(); }

  // From now on signals of this thread are delivered to it, instead of being held back.
  void deliver_signals(pid_t tid) { receivers_.insert(tid); }

  // Whether a thread that was killed has ended by now; if so nothing is left of it to wait for. Any of the engine's threads
  // may ask, while no other one waits for that thread.
  static bool collect_end(pid_t tid);
  bool died(pid_t tid) const { return dead_.contains(tid); }
  void forget(pid_t tid);
  // Threads that a SIGSTOP reached while they were held: it was held back, to be sent again on release.
  bool was_stopped_meanwhile(pid_t tid) const { return stop_signals_.contains(tid); }

 private:
  Keeper() = default;
  bool collect_of(pid_t tid);          // its next wait status, if there is one
  void collect();                      // every wait status there is, without waiting
  void note(pid_t tid, int status);
  void answer(pid_t tid, int status);  // of a thread that should be running
  [[nodiscard]] Result<> sleep(const std::uint32_t* word, std::uint32_t seen, std::uint32_t events,
                               Deadline deadline);

  // One robust list and the thread that owns it. The thread of the first is the engine's own.
  struct Owner {
    robust_list_head list{};
    std::uint32_t tid = 0;
    std::size_t cells = 0;
    std::thread thread;
    std::atomic<std::uint32_t> dismissed{0};  // a futex
  };
  static void own_list(Owner& owner, std::atomic<std::uint32_t>& tid);
  Result<Owner*> owner_with_room();
  std::vector<std::unique_ptr<Owner>> owners_;
  struct Place {
    Owner* owner;
    robust_list *previous, *next;
  };
  std::unordered_map<robust_list*, Place> places_;  // of all enlisted cells
  std::uint32_t collected_ = 0;  // child events seen so far
  std::unordered_set<pid_t> awaited_, dead_, stop_signals_, receivers_;
  std::unordered_map<pid_t, Stop> stops_;
  std::unordered_map<pid_t, Fault> faults_;
  bool any_faulted_ = false;
};

}  // namespace dormouse::parasite
