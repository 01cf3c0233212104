#include <linux/futex.h>

#include "base/format.h"
#include "kernel/ptrace.h"
#include "parasite/host/attended.h"
#include "parasite/host/held_process.h"

namespace dormouse::parasite {

Result<std::size_t> Batch::add(HeldProcess& process, HeldThread& thread, const Program& program) {
  return add(process.area(), thread.slot_, thread.tid(), process.name(), program);
}

Result<std::size_t> Batch::add(Area& area, std::uint32_t slot, pid_t tid, std::string name,
                               const Program& program) {
  const Placed placed = TRY(area.place(program));
  jobs_.push_back({&area, slot, tid, std::move(name), placed, 0});
  return jobs_.size() - 1;
}

// The engine holds the word and the thread sleeps on it; without FUTEX_WAITERS it means "work to do".
Result<> Batch::start(Job& job) {
  blob::Cell& cell = job.area->cell(job.slot);
  cell.program = job.placed.address();
  cell.command = static_cast<std::uint32_t>(blob::Command::kRun);
  job.finished_before = __atomic_load_n(&cell.finished, __ATOMIC_ACQUIRE);
  Keeper::hand_work(cell);
  return {};
}

// A thread that faulted is not at the end of its program: idle again, it can be asked for other things, and leave.
Result<> Batch::serve_again(const Job& job) {
  const user_regs_struct regs = TRY(sys::ptrace::getregs(job.tid));
  TRY(sys::ptrace::setregs(job.tid, registers_to_serve(regs, *job.area, job.slot)));
  TRY(sys::ptrace::setsigmask(job.tid, ~std::uint64_t{0}));
  __atomic_or_fetch(&job.area->cell(job.slot).word, FUTEX_WAITERS, __ATOMIC_ACQ_REL);
  return keeper_.go_on_after_fault(job.tid);
}

std::string Batch::operation(const Program& program, std::uint32_t op) {
  if (op >= program.op_count()) return "a program";
  const std::string what = program.label(op), call = program.name(op);
  return what.empty() ? call : format("{} ({})", what, call);
}

Result<> Batch::verdict(const Job& job) {
  const blob::ProgramHeader header = job.placed.header();
  const Program& program = job.placed.program();
  if (header.done == program.op_count()) return {};
  if (header.done > program.op_count())
    return fail(Error::task_died("the shared area was overwritten").owner(job.name));
  const std::int64_t result = job.placed.result({header.done});
  const std::string what = operation(program, header.done);
  if (result < 0 && result >= -4095)
    return fail(Error::kernel(what, static_cast<int>(-result)).owner(job.name));
  return fail(Error::unsupported(format("{}: unexpected result {:#x}", what, result)).owner(job.name));
}

Result<> Batch::run(std::chrono::milliseconds patience) {
  for (Job& job : jobs_) TRY(start(job));
  const Deadline deadline = within(patience);
  Result<> outcome;
  for (const Job& job : jobs_) {
    Result<> waited = keeper_.wait_word(job.area->cell(job.slot).finished, job.finished_before, job.tid, deadline);
    if (waited) {
      waited = verdict(job);
    } else if (keeper_.faulted(job.tid)) {
      waited = fail(std::move(waited).error().during(operation(job.placed.program(), job.placed.header().done)));
      (void)serve_again(job);
    }
    if (!waited && outcome) outcome = fail(std::move(waited).error().owner(job.name));
  }
  return outcome;
}

}  // namespace dormouse::parasite
