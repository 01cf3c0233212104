#include "parasite/host/job.h"

#include <linux/futex.h>

#include "base/format.h"
#include "kernel/ptrace.h"
#include "parasite/host/attended.h"

namespace dormouse::parasite {
namespace {

std::string operation(const Program& program, std::uint32_t op) {
  if (op >= program.op_count()) return "a program";
  const std::string what = program.label(op), call = program.name(op);
  return what.empty() ? call : format("{} ({})", what, call);
}

}  // namespace

// The engine holds the word and the thread sleeps on it; without FUTEX_WAITERS it means "work to do".
void Job::start() { Keeper::hand_work(prepare()); }

// Nobody sleeps on the word yet. Should the engine die now, the thread finds that in it before it looks for work.
void Job::start_on_arrival() { __atomic_and_fetch(&prepare().word, ~std::uint32_t{FUTEX_WAITERS}, __ATOMIC_RELEASE); }

blob::Cell& Job::prepare() {
  blob::Cell& cell = area_->cell(slot_);
  cell.program = placed_.address();
  cell.command = static_cast<std::uint32_t>(blob::Command::kRun);
  finished_before_ = __atomic_load_n(&cell.finished, __ATOMIC_ACQUIRE);
  return cell;
}

Result<> Job::wait(Keeper& keeper, Deadline deadline) const {
  Result<> waited = keeper.wait_word(area_->cell(slot_).finished, finished_before_, tid_, deadline);
  if (waited) {
    waited = verdict();
  } else if (keeper.faulted(tid_)) {
    waited = fail(std::move(waited).error().during(operation(placed_.program(), placed_.header().done)));
    (void)serve_again(keeper);
  }
  if (!waited) return fail(std::move(waited).error().owner(name_));
  return {};
}

// A thread that faulted is not at the end of its program: idle again, it can be asked for other things, and leave.
Result<> Job::serve_again(Keeper& keeper) const {
  const user_regs_struct regs = TRY(sys::ptrace::getregs(tid_));
  TRY(sys::ptrace::setregs(tid_, registers_to_serve(regs, *area_, slot_)));
  TRY(sys::ptrace::setsigmask(tid_, ~std::uint64_t{0}));
  __atomic_or_fetch(&area_->cell(slot_).word, FUTEX_WAITERS, __ATOMIC_ACQ_REL);
  return keeper.go_on_after_fault(tid_);
}

Result<> Job::verdict() const {
  const blob::ProgramHeader header = placed_.header();
  const Program& program = placed_.program();
  if (header.done == program.op_count()) return {};
  if (header.done > program.op_count()) return fail(Error::task_died("the shared area was overwritten"));
  const std::int64_t result = placed_.result({header.done});
  const std::string what = operation(program, header.done);
  if (result < 0 && result >= -4095) return fail(Error::kernel(what, static_cast<int>(-result)));
  return fail(Error::unsupported(format("{}: unexpected result {:#x}", what, result)));
}

}  // namespace dormouse::parasite
