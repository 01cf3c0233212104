// Everything that stands in the way of a checkpoint (or a restore), collected over the whole tree, so
// that a user learns all of it at once instead of one obstacle per attempt.
#pragma once

#include <utility>
#include <vector>

#include "base/error.h"

namespace dormouse::engine {

class Blockers {
 public:
  void add(Error error) { all_.push_back(std::move(error)); }
  // Keeps the failure of a step and lets the caller go on with the next object. True if it was fine.
  bool note(Result<> step) {
    if (step) return true;
    add(std::move(step).error());
    return false;
  }
  bool empty() const { return all_.empty(); }
  std::vector<Error> take() && { return std::move(all_); }

 private:
  std::vector<Error> all_;
};

}  // namespace dormouse::engine
