// Programs for many puppets, each started as soon as it is given: what one of them does, the engine uses to prepare
// the next. They are waited for in the order in which they were given.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>

#include "parasite/host/job.h"
#include "parasite/host/puppets.h"

namespace dormouse::parasite {

class Pipeline {
 public:
  // So many run at a time.
  static constexpr std::size_t kLanes = 16;
  using Done = std::function<Result<>(const Placed&)>;

  // The yard's area serves nothing else until finish(). After a failure its programs may still run: the puppets are only
  // good to be killed then.
  explicit Pipeline(PuppetYard& yard);

  // Which of the lanes the next program has to itself, from 0; waits until it is free.
  Result<std::size_t> next_lane();
  // `done` is called when it ended as expected. Puppets may get several programs only with a finish() between. kConflict with
  // ENOSPC: larger than the area.
  [[nodiscard]] Result<> start(const Puppet& puppet, Program program, Done done = {});
  // Until all have ended.
  [[nodiscard]] Result<> finish();

 private:
  struct Entry {
    std::unique_ptr<Program> program;
    Job job;
    Done done;
  };
  [[nodiscard]] Result<> wait_for_oldest();

  PuppetYard& yard_;
  std::deque<Entry> running_;
  std::size_t started_ = 0;  // in all
  std::size_t placed_ = 0;   // since the area was last empty
};

}  // namespace dormouse::parasite
