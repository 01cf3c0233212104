#include "engine/release_tree.h"

#include "kernel/process.h"

namespace dormouse::engine {
namespace {

// The first failure of many steps, all of which are taken.
class FirstError {
 public:
  void note(Result<> step) {
    if (!step && first_) first_ = std::move(step);
  }
  Result<> take() && { return std::move(first_); }

 private:
  Result<> first_;
};

}  // namespace

// A container that was paused never runs: it is frozen again when its tasks are as they were, and before
// they are let go.
Result<> put_back(StoppedTree* stopped, cgroups::Freezer* freezer, bool stop_afterwards) {
  FirstError outcome;
  if (stopped)
    for (auto& held : stopped->held)
      if (held) outcome.note(held->withdraw());
  if (freezer) outcome.note(freezer->finish(cgroups::Freezer::Leave::kAsFound));
  if (stopped)
    for (auto& held : stopped->held)
      if (held) outcome.note(held->release(stop_afterwards));
  return std::move(outcome).take();
}

Result<> kill_tree(StoppedTree& stopped, cgroups::Freezer* freezer, std::span<const Task* const> large) {
  FirstError outcome;
  for (auto& held : stopped.held)
    if (held) outcome.note(held->begin_kill());
  // A process is not gone before its memory is freed: two are quicker at it. It ends without this, too.
  for (const Task* task : large) (void)sys::process_mrelease(task->pidfd.get());
  for (auto& held : stopped.held)
    if (held) outcome.note(held->finish_kill(parasite::within(std::chrono::seconds(10))));
  if (freezer) outcome.note(freezer->finish(cgroups::Freezer::Leave::kThawed));
  return std::move(outcome).take();
}

}  // namespace dormouse::engine
