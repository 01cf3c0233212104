#include "parasite/host/held_process.h"

namespace dormouse::parasite {

Result<std::size_t> Batch::add(HeldProcess& process, HeldThread& thread, const Program& program) {
  return add(process.area(), thread.slot_, thread.tid(), process.name(), program);
}

Result<std::size_t> Batch::add(Area& area, std::uint32_t slot, pid_t tid, std::string name, const Program& program) {
  const Placed placed = TRY(area.place(program));
  jobs_.emplace_back(area, slot, tid, std::move(name), placed);
  return jobs_.size() - 1;
}

Result<> Batch::run(std::chrono::milliseconds patience) {
  for (Job& job : jobs_) job.start();
  const Deadline deadline = within(patience);
  Result<> outcome;
  for (const Job& job : jobs_)
    if (Result<> ended = job.wait(keeper_, deadline); !ended && outcome) outcome = std::move(ended);
  return outcome;
}

}  // namespace dormouse::parasite
