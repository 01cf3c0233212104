#include "parasite/host/helper_thread.h"

#include <linux/futex.h>
#include <sched.h>

#include <utility>

#include "kernel/abi.h"
#include "kernel/proc/directory.h"
#include "kernel/ptrace.h"

namespace dormouse::parasite {

Result<HelperThread> HelperThread::start(Keeper& keeper, Place place, pid_t ns_tid) {
  HelperThread helper(keeper, std::move(place));
  Area& area = helper.place_.area;
  const std::uint32_t slot = helper.place_.slot;
  blob::Cell& cell = area.cell(slot);
  cell = {};
  cell.leave_by = blob::Leave::kExitThread;
  cell.area = area.address();
  cell.stack_top = area.stack_top(slot);
  TRY(keeper.enlist(cell));

  Program program;
  abi::CloneArgs args;
  args.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
               CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
  // The kernel says that it is there, in the very call that makes it: who leaves must not wait for one that never came.
  args.parent_tid = args.child_tid = area.address() + offsetof(blob::AreaHeader, helper);
  args.stack = area.stack_bottom(slot);
  args.stack_size = area.stack_top(slot) - args.stack;
  const DataRef tid = program.value(std::int64_t{ns_tid});
  args.set_tid_size = ns_tid != 0 ? 1 : 0;
  const DataRef at = program.value(args);
  if (ns_tid != 0) program.point(at + offsetof(abi::CloneArgs, set_tid), tid);
  program.perform(OpCode::kSpawn, "start a helper thread", {at, sizeof args, area.cell_address(slot)});
  Batch batch(keeper);
  TRY(batch.add(area, helper.place_.leader_slot, helper.place_.leader_tid, helper.place_.name, program));
  if (Result<> ran = batch.run(); !ran) {
    keeper.dismiss(cell);
    return fail(std::move(ran).error());
  }
  helper.running_ = true;
  helper.trace();
  return helper;
}

// The kernel says its id only as the process sees it; of the threads that /proc shows it is the one that is not held.
void HelperThread::trace() {
  if (!place_.held) return;
  const auto process = proc::ProcDir::open(place_.held->pid());
  const auto threads = process ? process->threads() : Result<std::vector<pid_t>>(fail(process.error()));
  if (!threads) return;
  std::vector<pid_t> others;
  for (const pid_t tid : *threads)
    if (tid != place_.held->pid() && !place_.held->holds(tid)) others.push_back(tid);
  if (others.size() == 1 && sys::ptrace::seize(others.front(), 0)) tid_ = others.front();
}

HelperThread::HelperThread(HelperThread&& other) noexcept
    : keeper_(other.keeper_), place_(std::move(other.place_)), running_(std::exchange(other.running_, false)),
      tid_(other.tid_) {}

HelperThread::~HelperThread() { (void)dismiss(); }

Result<std::size_t> HelperThread::add_to(Batch& batch, const Program& program) {
  return batch.add(place_.area, place_.slot, known_as(), place_.name, program);
}

Result<> HelperThread::dismiss() {
  if (!std::exchange(running_, false)) return {};
  blob::Cell& cell = place_.area.cell(place_.slot);
  cell.command = static_cast<std::uint32_t>(blob::Command::kLeave);
  Keeper::hand_work(cell);
  const std::uint32_t& there = place_.area.header().helper;
  const Deadline deadline = within(std::chrono::seconds(10));
  Result<> gone;
  if (const std::uint32_t tid = __atomic_load_n(&there, __ATOMIC_ACQUIRE); tid != 0)
    gone = keeper_.wait_word(there, tid, known_as(), deadline);
  keeper_.dismiss(cell);
  return tid_ != 0 ? collect(deadline) : gone;
}

// A thread that is traced is a zombie until its tracer has heard of its end.
Result<> HelperThread::collect(Deadline deadline) {
  keeper_.expect_stops(tid_);
  Result<Stop> end = keeper_.wait_stop(tid_, deadline);
  keeper_.forget(tid_);
  if (end || end.error().kind() == Error::Kind::kTaskDied) return {};
  return fail(std::move(end).error());
}

}  // namespace dormouse::parasite
