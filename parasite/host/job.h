// One program on one thread that serves an area: started, waited for, judged.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "parasite/host/area.h"
#include "parasite/host/keeper.h"

namespace dormouse::parasite {

class Job {
 public:
  // `placed` is in `area`; the thread `tid` serves `slot` of it. `name`: how errors call the thread.
  Job(Area& area, std::uint32_t slot, pid_t tid, std::string name, Placed placed)
      : area_(&area), slot_(slot), tid_(tid), name_(std::move(name)), placed_(placed) {}

  void start();
  // For a thread that is not in the interpreter yet: the program is the first thing that it does there.
  void start_on_arrival();
  // Until the program has ended. The error of an operation that did not end as expected names it and the thread. One that
  // faulted is at the interpreter's beginning again.
  [[nodiscard]] Result<> wait(Keeper& keeper, Deadline deadline) const;
  const Placed& placed() const { return placed_; }

 private:
  blob::Cell& prepare();
  [[nodiscard]] Result<> serve_again(Keeper& keeper) const;
  Result<> verdict() const;

  Area* area_;
  std::uint32_t slot_;
  pid_t tid_;
  std::string name_;
  Placed placed_;
  std::uint32_t finished_before_ = 0;
};

}  // namespace dormouse::parasite
