// Saving the state of tasks and threads: core-N.img (registers, signals, timers, credentials, limits,
// scheduling, …) and what seccomp.img needs.
//
// It is gathered in three steps, each with the threads where that step needs them:
//   1. read_stopped():  threads in a ptrace stop, contexts captured, not yet in the interpreter: what only
//      ptrace can tell (queued signals, rseq registration, seccomp filters), and what /proc knows.
//   2. program()s:      what a thread runs in the interpreter: what only the task itself can tell
//      (signal actions, timers, prctl settings, …). One per thread; take() brings the answers in.
//   3. write():         the images.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/dump_context.h"
#include "engine/task/seccomp.h"
#include "kernel/proc/directory.h"
#include "parasite/host/held_process.h"

namespace dormouse::engine {

class TaskDump {
 public:
  // All outlive this object. `filters` collects the seccomp filters of the whole tree; its owner writes it
  // after the last task's write().
  TaskDump(DumpContext& context, const Task& task, parasite::HeldProcess& held, SeccompTable& filters);
  TaskDump(TaskDump&&) noexcept;
  ~TaskDump();

  std::size_t thread_count() const;
  // What /proc says of one thread, whose directory there is `dir` (of the first: and of the process). Several threads of
  // the engine may do so.
  [[nodiscard]] Result<> read_files(std::size_t thread, const proc::ProcDir& dir);
  // After all read_files(): what the kernel tells only the tracer, and so the tracer's thread alone. Also sends threads
  // that were stopped inside a restartable sequence to its abort handler.
  [[nodiscard]] Result<> read_traced();

  // What those programs, and all others, may need; after read_files().
  std::size_t program_bytes() const;
  // Makes the programs that ask the rest (the leader's also asks for what the whole process shares); after read_traced().
  // They are large: of many tasks, a few at a time are asked.
  void ask();
  const parasite::Program& program(std::size_t thread) const;
  void drop_programs();  // after take()
  // Where its threads have their areas for restartable sequences. The kernel writes there on which processor they are
  // when one comes back from a call after it has moved, in the interpreter too. Valid after read_traced().
  std::vector<std::uint64_t> restartable_areas() const;
  // After they ran: takes the answers out of thread `index`'s placed program.
  [[nodiscard]] Result<> take(std::size_t thread, const parasite::Placed& placed);

  // After take(): timers may have expired since their process's waiting signals were read.
  [[nodiscard]] Result<> mark_expired_timers(parasite::Keeper& keeper);
  // After that: what a signal of a timer tells only when it is delivered.
  [[nodiscard]] Result<> count_overruns(parasite::Keeper& keeper);
  // After take(): kUnsupported if a thread is restricted in a way that the kernel does not tell.
  [[nodiscard]] Result<> refuse_restrictions(parasite::Keeper& keeper);

  // Those that do not share their process's working directory, root and umask; after read_files(). Where their
  // directories are in files.img has to be said before write_process().
  std::vector<std::size_t> threads_with_own_directories() const;
  void set_directories(std::size_t thread, std::uint32_t cwd_id, std::uint32_t root_id);

  // The cg_set_entry of cgroup.img that the thread belongs to; before write().
  void set_cgroup_set(std::size_t thread, std::uint32_t id);

  // For mm-N.img; known after take() of the leader.
  int dumpable() const;  // as PR_GET_DUMPABLE tells it
  bool thp_disabled() const;

  // Of every task, in the order of the tree: its filters go into their table.
  [[nodiscard]] Result<> begin_write();
  // Then core-<tid>.img of one thread, and what is written once for the process. Several threads of the engine may do so.
  // Namespace ids and kernel object ids (ids-<pid>.img) are not of this room.
  [[nodiscard]] Result<> write_thread(std::size_t thread);
  [[nodiscard]] Result<> write_process();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Zombies have a core image too, with little in it.
[[nodiscard]] Result<> write_zombie_core(DumpContext& context, const Task& task);

}  // namespace dormouse::engine
