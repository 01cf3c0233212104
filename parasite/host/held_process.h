// A process whose threads are stopped and, from enter() to release(), serve the interpreter.
//
// The rule it keeps: whatever happens to the engine, the process goes on as it was. Before a thread's
// registers are first changed, a signal frame with its full context stands on its stack; every way out of
// the interpreter that the engine does not attend ends in rt_sigreturn on that frame. The attended way
// out, release(), puts registers and signal mask back through ptrace, so that even a system call that
// was interrupted goes on as if nothing had happened.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "kernel/proc/maps.h"
#include "parasite/host/area.h"
#include "parasite/host/attended.h"
#include "parasite/host/context.h"
#include "parasite/host/gadgets.h"
#include "parasite/host/job.h"
#include "parasite/host/keeper.h"
#include "parasite/host/signal_action.h"

namespace dormouse::parasite {

class HeldThread {
 public:
  pid_t tid() const { return tid_; }
  const Context& context() const { return context_; }
  // The alternate signal stack as sigaltstack() reports it; known after enter().
  const stack_t& alternate_stack() const { return alternate_stack_; }
  // The process was stopped (SIGSTOP, SIGTSTP, …) by this signal when the thread was seized; 0: it ran.
  int stop_signal() const { return stop_signal_; }

  // Between capture_contexts() and enter(): the thread was inside a restartable sequence, which it must leave
  // by its abort handler, wherever it goes on.
  void abort_sequence(std::uint64_t handler) { context_.regs.rip = handler; }
  // Before enter(): seccomp's strict mode leaves it few calls, and to 32-bit code only the oldest way to return from a
  // signal.
  void set_strict() { strict_ = true; }
  // After capture_contexts(): which call it is that the thread continues, where the kernel's only word for it is
  // restart_syscall. Makes no difference to the thread, which goes on from the kernel's restart block.
  void name_call(std::uint64_t number) { context_.regs.orig_rax = number; }

 private:
  friend class HeldProcess;
  friend class Batch;
  pid_t tid_ = 0;
  int stop_signal_ = 0;
  Context context_;
  stack_t alternate_stack_{};
  std::uint32_t slot_ = 0;
  bool stopped_ = false;  // in the stop that was asked for
  bool captured_ = false;  // context_ is its own
  bool inside_ = false;   // serving the interpreter
  bool strict_ = false;
  SignalFrame frame_;
  std::vector<std::byte> under_frame_;  // what stood where the frame is
};

class HeldProcess {
 public:
  // `name`: how errors call it. `keeper`, `log` outlive this object.
  HeldProcess(Keeper& keeper, Log& log, pid_t pid, std::string name);
  HeldProcess(const HeldProcess&) = delete;
  HeldProcess& operator=(const HeldProcess&) = delete;
  ~HeldProcess();  // releases, best effort

  pid_t pid() const { return pid_; }
  const std::string& name() const { return name_; }
  std::vector<std::unique_ptr<HeldThread>>& threads() { return threads_; }
  // The first that lives: the main thread, unless that has ended before the others.
  HeldThread& leader() { return *threads_.front(); }
  // A `syscall` instruction (32-bit: `int $0x80`) in the process's own code; 0: none was found. Known after enter().
  std::uint64_t syscall_instruction() const { return gadgets_.syscall; }
  // The process runs 32-bit code; the interpreter in it is 64-bit code all the same. Known after capture_contexts().
  bool runs_32_bit_code() const { return is_32_; }
  Area& area() { return *area_; }
  bool inside() const { return area_.has_value(); }
  // The area's slot that no thread of the process uses.
  std::uint32_t spare_slot() const { return static_cast<std::uint32_t>(threads_.size()); }

  // Seizes one more thread and asks it to stop; the first is the leader, if that lives. False: it is gone, or a
  // zombie. kConflict: somebody else traces it.
  Result<bool> seize(pid_t tid);
  bool holds(pid_t tid) const;
  // Waits until every seized thread has stopped. A thread that ended meanwhile is dropped.
  [[nodiscard]] Result<> wait_stopped(Deadline deadline);
  // Lets a stopped process of one thread run until it executes another program or ends, and holds it there:
  // its parent may wait for that in vfork(), where it cannot be stopped.
  [[nodiscard]] Result<> run_to_exec(Deadline deadline);
  // Reads the registers of all threads. They must be stopped. kUnsupported: code segments of the program's own (LDT), or
  // 64-bit and 32-bit code in one process.
  [[nodiscard]] Result<> capture_contexts();
  // Seccomp filters calls of some of its threads, which bite again when nobody traces them: without the engine these
  // threads then do nothing but return to where they were, and leave the area behind. To be said before enter().
  void set_confined() { confined_ = true; }
  // Whether all its threads have stopped.
  bool stopped() const;
  // Whether a HelperThread could work in it. It is not traced: filters that it inherits would bite, and one that is
  // born into a stopped process stops as well.
  bool can_be_helped() const { return !confined_ && threads_.front()->stop_signal() == 0; }
  // Whether its threads may clean up behind themselves if the engine dies. Known after enter().
  bool can_tidy() const { return gadgets_.complete() && !confined_; }
  // All threads into the interpreter. `proc_dir`: /proc/PID of the process. `first`: for each thread the program that it
  // runs as it comes in, or nothing. They must live until enter() has returned.
  [[nodiscard]] Result<> enter(GadgetFinder& finder, int proc_dir, std::span<const proc::Vma> maps,
                               std::size_t program_bytes = Area::kDefaultProgramBytes,
                               std::vector<const Program*> first = {});
  struct Entry {
    HeldProcess* process = nullptr;
    int proc_dir = -1;
    std::span<const proc::Vma> maps;
    std::size_t program_bytes = Area::kDefaultProgramBytes;
    std::vector<const Program*> first;
  };
  // Several processes, each with memory of its own: while one makes a call the engine is busy with the next. After a failure
  // each of them is to be released.
  [[nodiscard]] static Result<> enter_together(Keeper& keeper, GadgetFinder& finder, std::span<const Entry> entries);
  // What has become of the first programs.
  bool ran_first() const { return !arrival_.jobs.empty(); }
  const Placed& first(std::size_t thread) const { return arrival_.jobs[thread].placed(); }
  void drop_first();
  // Of a thread that is in the interpreter, and of its process.
  struct WaitingSignals {
    std::vector<siginfo_t> own, shared;
  };
  Result<WaitingSignals> waiting_signals(const HeldThread& thread);
  // A program that the last thread runs if the engine is gone: closes what was lent to the process.
  // Its data stays where it is placed until drop_farewell().
  Result<Placed> set_farewell(const Program& program);
  void drop_farewell();

  // Everything as it was, but the threads are still in their ptrace stops: release() in two steps, for those
  // who have something to do in between.
  [[nodiscard]] Result<> withdraw();
  // Everything as it was, detached. Safe to call at any stage, also after failures; the first error is
  // told, the rest is done nevertheless. A process that died is no error.
  [[nodiscard]] Result<> release(bool stop_afterwards = false);
  // SIGKILL, and waiting until it is gone (collected by its parent or not). Many can die at once.
  [[nodiscard]] Result<> begin_kill();
  [[nodiscard]] Result<> finish_kill(Deadline deadline);

 private:
  friend class Batch;
  Result<std::uint64_t> call(HeldThread& thread, long number, std::span<const std::uint64_t> args,
                             std::uint64_t stack);
  [[nodiscard]] Result<> lay_frame(HeldThread& thread, std::uint64_t stack, bool on_alternate_stack);
  // What every thread is asked as it comes in, besides what the caller asks.
  struct Arrival {
    struct Questions {
      Program program;
      DataRef stack;
    };
    Questions leaders;
    DataRef actions;
    std::map<const Program*, Questions> others;  // by what the caller asks
    std::vector<Job> jobs;                       // of the threads, in their order
  };
  void ask_on_arrival(std::span<const Program* const> first);
  // The shared area on its way into the process.
  struct Mapping {
    AttendedCall call;
    std::uint32_t slots = 0;
    std::uint64_t wanted = 0;
    std::size_t size = 0;
    std::uint64_t stack = 0;         // of the calls
    std::vector<std::byte> covered;  // what stood where the frame is that would unmap it; empty: there is none
  };
  [[nodiscard]] Result<> begin_entering(GadgetFinder& finder, const Entry& entry);
  [[nodiscard]] Result<> begin_mapping(std::span<const proc::Vma> maps, std::size_t program_bytes);
  [[nodiscard]] Result<> finish_mapping(int proc_dir);
  [[nodiscard]] Result<> give_up_mapping();
  Result<std::uint64_t> mapped_area(bool& writable);
  [[nodiscard]] Result<> serve(const Entry& entry);
  [[nodiscard]] Result<> part_area(std::uint64_t stack);
  SignalFrame frame_for(const HeldThread& thread, std::uint64_t stack, bool on_alternate_stack) const;
  std::uint64_t home_of(const HeldThread& thread) const;
  SignalFrame undo_frame(std::uint64_t wanted, std::size_t size) const;
  [[nodiscard]] Result<> start_serving(HeldThread& thread, const Program& first);
  user_regs_struct registers_to_go_home(const HeldThread& thread) const;
  [[nodiscard]] Result<> send_in(const HeldThread& thread, const user_regs_struct& regs);
  [[nodiscard]] Result<> learn_actions_early();
  void learn_actions();
  [[nodiscard]] Result<> take_stacks_and_actions(std::span<const Program* const> first);
  [[nodiscard]] Result<> mend_actions();
  [[nodiscard]] Result<> move_frame(HeldThread& thread);
  [[nodiscard]] Result<> bring_back(HeldThread& thread);
  [[nodiscard]] Result<> park(HeldThread& thread);
  [[nodiscard]] Result<> put_back(HeldThread& thread);
  [[nodiscard]] Result<> unmap_area();

  Keeper& keeper_;
  Log& log_;
  pid_t pid_;
  std::string name_;
  std::vector<std::unique_ptr<HeldThread>> threads_;
  std::unordered_set<pid_t> held_;  // ids of all of them
  Gadgets gadgets_;
  std::optional<Mapping> mapping_;
  std::uint64_t area_address_ = 0, area_size_ = 0;  // mapped in the task, perhaps not yet here
  std::optional<Area> area_;
  Arrival arrival_;
  std::optional<std::array<SignalAction, kFaultSignals.size()>> fault_actions_;  // nothing: not told yet
  bool withdrawn_ = false, released_ = false, confined_ = false, is_32_ = false;
};

// Programs for several threads, run at once: all are woken, then all are waited for.
class Batch {
 public:
  explicit Batch(Keeper& keeper) : keeper_(keeper) {}
  // `program` must live until the batch's results have been read. One program per thread.
  Result<std::size_t> add(HeldProcess& process, HeldThread& thread, const Program& program);
  // For puppets: a cell of an area that the caller manages.
  Result<std::size_t> add(Area& area, std::uint32_t slot, pid_t tid, std::string name,
                          const Program& program);
  // Error: of the first program that did not end as expected, naming operation and process.
  [[nodiscard]] Result<> run(std::chrono::milliseconds patience = std::chrono::seconds(60));
  const Placed& placed(std::size_t index) const { return jobs_[index].placed(); }

 private:
  Keeper& keeper_;
  std::vector<Job> jobs_;
};

}  // namespace dormouse::parasite
