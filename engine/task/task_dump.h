// Saving the state of tasks and threads: core-N.img (registers, signals, timers, credentials, limits,
// scheduling, …) and seccomp.img.
//
// It is gathered in three steps, each with the threads where that step needs them:
//   1. read_stopped():  threads in a ptrace stop, not yet in the interpreter: what only ptrace can tell
//      (queued signals, rseq registration, seccomp filters).
//   2. ask():           appends to a program that a thread runs in the interpreter: what only the task
//      itself can tell (signal actions, timers, prctl settings, …).
//   3. write():         puts everything together with /proc and writes the images.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/dump_context.h"
#include "parasite/host/held_process.h"

namespace dormouse::engine {

class TaskDump {
 public:
  TaskDump(DumpContext& context, const Task& task, parasite::HeldProcess& held);
  TaskDump(TaskDump&&) noexcept;
  ~TaskDump();

  [[nodiscard]] Result<> read_stopped();

  // Programs, one per thread (the leader's also asks for what the whole process shares).
  const parasite::Program& program(std::size_t thread);
  // After they ran: takes the answers out of thread `index`'s placed program.
  [[nodiscard]] Result<> take(std::size_t thread, const parasite::Placed& placed);

  // core-<tid>.img for every thread; `cgroup_set` per thread may be 0. Namespace ids, kobj ids
  // (ids-<pid>.img) are written by checkpoint.cc.
  [[nodiscard]] Result<> write();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Zombies have a core image too, with little in it.
[[nodiscard]] Result<> write_zombie_core(DumpContext& context, const Task& task);

}  // namespace dormouse::engine
