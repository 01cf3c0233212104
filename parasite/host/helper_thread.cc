#include "parasite/host/helper_thread.h"

#include <linux/futex.h>
#include <sched.h>

#include <utility>

#include "kernel/abi.h"

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
  return helper;
}

HelperThread::HelperThread(HelperThread&& other) noexcept
    : keeper_(other.keeper_), place_(std::move(other.place_)), running_(std::exchange(other.running_, false)) {}

HelperThread::~HelperThread() { (void)dismiss(); }

Result<std::size_t> HelperThread::add_to(Batch& batch, const Program& program) {
  return batch.add(place_.area, place_.slot, place_.leader_tid, place_.name, program);
}

Result<> HelperThread::dismiss() {
  if (!std::exchange(running_, false)) return {};
  blob::Cell& cell = place_.area.cell(place_.slot);
  cell.command = static_cast<std::uint32_t>(blob::Command::kLeave);
  Keeper::hand_work(cell);
  const std::uint32_t& there = place_.area.header().helper;
  Result<> gone;
  if (const std::uint32_t tid = __atomic_load_n(&there, __ATOMIC_ACQUIRE); tid != 0)
    gone = keeper_.wait_word(there, tid, place_.leader_tid, within(std::chrono::seconds(10)));
  keeper_.dismiss(cell);
  return gone;
}

}  // namespace dormouse::parasite
