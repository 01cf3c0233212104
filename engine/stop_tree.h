// Finding and stopping a whole tree of tasks.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "engine/tree.h"
#include "kernel/proc/directory.h"
#include "parasite/host/held_process.h"

namespace dormouse::engine {

// The tree and, in the same order, what holds each task. Destroying it lets all of them go.
struct StoppedTree {
  Tree tree;
  std::vector<std::optional<proc::ProcDir>> dirs;
  std::vector<std::unique_ptr<parasite::HeldProcess>> held;  // null for zombies
};

class TreeStopper {
 public:
  TreeStopper(parasite::Keeper& keeper, Log& log) : keeper_(keeper), log_(log) {}

  // First pass: seizes every thread there is to be seen and asks it to stop, without waiting. Works on
  // frozen tasks too; those stop when they are thawed.
  [[nodiscard]] Result<> seize(pid_t root);
  // Second pass: waits for the stops and looks again until nothing new appears. Then every thread of
  // the tree is in a ptrace stop.
  Result<StoppedTree> settle(std::chrono::milliseconds timeout);

 private:
  Result<bool> add_process(pid_t pid, Task* parent);
  Result<bool> seize_new_threads(std::size_t index);
  Result<bool> add_new_children(std::size_t index);
  enum class Children { kOfStopped, kOfAll };
  Result<bool> look_again(Children children);
  [[nodiscard]] Result<> wait_all(parasite::Deadline deadline);
  [[nodiscard]] Result<> wait_one(std::size_t index, parasite::Deadline deadline);
  [[nodiscard]] Result<> describe();
  [[nodiscard]] Result<> look_through(std::size_t index, pid_t tid);
  [[nodiscard]] Result<> describe(std::size_t index, std::size_t level);
  void drop_dead();

  parasite::Keeper& keeper_;
  Log& log_;
  StoppedTree stopped_;
  std::unordered_set<pid_t> known_;  // processes of the tree
};

// vm_id, files_id, fs_id, sighand_id of all tasks: the same number for the same object (kcmp).
[[nodiscard]] Result<> identify_shared(Tree& tree);

}  // namespace dormouse::engine
