#include "base/format.h"
#include "parasite/host/held_process.h"

namespace dormouse::parasite {

Result<std::size_t> Batch::add(HeldProcess& process, HeldThread& thread, const Program& program) {
  return add(process.area(), thread.slot_, thread.tid(), process.name(), program);
}

Result<std::size_t> Batch::add(Area& area, std::uint32_t slot, pid_t tid, std::string name,
                               const Program& program) {
  const Placed placed = TRY(area.place(program));
  jobs_.push_back({&area, &area.cell(slot), tid, std::move(name), placed, 0});
  return jobs_.size() - 1;
}

// The engine holds the word and the thread sleeps on it; without FUTEX_WAITERS it means "work to do".
Result<> Batch::start(Job& job) {
  job.cell->program = job.placed.address();
  job.cell->command = static_cast<std::uint32_t>(blob::Command::kRun);
  job.finished_before = __atomic_load_n(&job.cell->finished, __ATOMIC_ACQUIRE);
  Keeper::hand_work(*job.cell);
  return {};
}

Result<> Batch::verdict(const Job& job) {
  const blob::ProgramHeader header = job.placed.header();
  const Program& program = job.placed.program();
  if (header.done == program.op_count()) return {};
  if (header.done > program.op_count())
    return fail(Error::task_died("the shared area was overwritten").owner(job.name));
  const std::int64_t result = job.placed.result({header.done});
  std::string what = program.label(header.done);
  const std::string call = program.name(header.done);
  what = what.empty() ? call : format("{} ({})", what, call);
  if (result < 0 && result >= -4095)
    return fail(Error::kernel(what, static_cast<int>(-result)).owner(job.name));
  return fail(Error::unsupported(format("{}: unexpected result {:#x}", what, result)).owner(job.name));
}

Result<> Batch::run(std::chrono::milliseconds patience) {
  for (Job& job : jobs_) TRY(start(job));
  const Deadline deadline = within(patience);
  Result<> outcome;
  for (const Job& job : jobs_) {
    Result<> waited = keeper_.wait_word(job.cell->finished, job.finished_before, job.tid, deadline);
    if (waited) waited = verdict(job);
    if (!waited && outcome) outcome = fail(std::move(waited).error().owner(job.name));
  }
  return outcome;
}

}  // namespace dormouse::parasite
