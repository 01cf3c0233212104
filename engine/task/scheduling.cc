#include "engine/task/scheduling.h"

#include <linux/sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/format.h"
#include "images/schema/task.pb.h"

namespace dormouse::engine {
namespace {

bool real_time(std::uint32_t policy) { return policy == SCHED_FIFO || policy == SCHED_RR; }

}  // namespace

void save_scheduling(const abi::SchedAttr& attr, int nice, pb::thread_core_entry& to) {
  const std::uint32_t policy = attr.policy == SCHED_DEADLINE ? SCHED_NORMAL : attr.policy;
  const bool reset = attr.flags & abi::kSchedFlagResetOnFork;
  to.set_sched_policy(policy | (reset ? SCHED_RESET_ON_FORK : 0));
  if (real_time(policy)) to.set_sched_prio(attr.priority);
  // All threads have a nice value, for the day they become ordinary again.
  to.set_sched_nice(nice);
}

void append_scheduling(parasite::Program& program, const pb::thread_core_entry& from) {
  const int priority = static_cast<int>(from.sched_prio());
  program.call(format("nice value {} (CAP_SYS_NICE)", from.sched_nice()), SYS_setpriority,
               {PRIO_PROCESS, 0, from.sched_nice()});
  program.call(format("scheduling policy {} with priority {} (CAP_SYS_NICE)", from.sched_policy(), priority),
               SYS_sched_setscheduler, {0, from.sched_policy(), program.value(priority)});
}

}  // namespace dormouse::engine
