// The live processes of a tree on their way into the images, and each step that all of them go through together.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "cgroups/save.h"
#include "engine/dump_context.h"
#include "engine/memory/address_space.h"
#include "engine/stop_tree.h"
#include "engine/task/task_dump.h"
#include "kernel/features.h"

namespace dormouse::engine {

// One of them.
struct Subject {
  Task& task;
  const proc::ProcDir& dir;
  parasite::HeldProcess& held;
  AddressSpace space;
  TaskDump state;
};

// In the tree's order, which is the order in which everything gets its numbers.
class Subjects {
 public:
  // Of the tree in `context`; all arguments outlive this object.
  Subjects(DumpContext& context, parasite::Keeper& keeper) : context_(context), keeper_(keeper) {}

  // What ptrace and /proc tell of them. Failures of single processes become blockers.
  [[nodiscard]] Result<> read(StoppedTree& stopped, const sys::Features& features, SeccompTable& filters);
  // Every thread serves the interpreter.
  [[nodiscard]] Result<> enter();
  // What only the tasks can tell. Refusals become blockers.
  [[nodiscard]] Result<> ask();
  // After read().
  [[nodiscard]] Result<> find_cgroups(cgroups::SavedCgroups& cgroups);
  // core-N.img, mm-N.img and the like.
  [[nodiscard]] Result<> write();

  std::span<Subject> all() { return subjects_; }
  // Whether uprobes have been in some of them.
  bool probed() const { return std::ranges::any_of(subjects_, [](const Subject& each) { return each.space.probed(); }); }
  // Where threads of all tasks in this one's memory have their areas for restartable sequences.
  std::vector<std::uint64_t> restartable_areas(const Task& owner) const;

 private:
  // What the engine's threads may share out among them: each thread of each task, and what a task has but once.
  struct Part {
    Subject* subject;
    std::optional<std::size_t> thread;
  };
  std::vector<Part> parts();
  [[nodiscard]] Result<> read_thread(Subject& subject, std::size_t thread, cgroups::SavedCgroups::Membership& membership);
  std::vector<const parasite::Program*> first_programs(Subject& subject);
  // One that lives in another's memory.
  [[nodiscard]] Result<> enter_shared(parasite::GadgetFinder& finder, Subject& subject);
  [[nodiscard]] Result<> ask_about_tasks(std::span<Subject> some);
  [[nodiscard]] Result<> ask_about_memory(std::span<Subject> some);
  [[nodiscard]] Result<> ask_more_about_memory(std::span<Subject> some);

  DumpContext& context_;
  parasite::Keeper& keeper_;
  std::vector<Subject> subjects_;
  std::vector<cgroups::SavedCgroups::Membership> memberships_;  // of the parts that are threads
};

}  // namespace dormouse::engine
