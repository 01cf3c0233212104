#include "engine/task/attributes.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/format.h"
#include "base/text.h"
#include "engine/memory/memory_policy.h"
#include "images/schema/attributes.pb.h"
#include "kernel/file.h"
#include "kernel/proc/stat.h"
#include "kernel/process.h"
#include "kernel/scheduling.h"

namespace dormouse::engine {
namespace {

// Numbers that older headers lack.
constexpr int kSetMdwe = 65, kGetMdwe = 66;               // PR_SET_MDWE, Linux 6.3
constexpr int kSetMemoryMerge = 67, kGetMemoryMerge = 68; // PR_SET_MEMORY_MERGE, Linux 6.4
constexpr int kSetIoFlusher = 57;                         // PR_SET_IO_FLUSHER, Linux 5.6
constexpr std::uint32_t kIoFlusherFlags = 0x0018'0000;    // PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE
constexpr std::uint64_t kFlagsOfDeadlines = SCHED_FLAG_RESET_ON_FORK | SCHED_FLAG_RECLAIM | SCHED_FLAG_DL_OVERRUN;
// PR_SPEC_STORE_BYPASS, PR_SPEC_INDIRECT_BRANCH, PR_SPEC_L1D_FLUSH.
constexpr std::uint32_t kSpeculations = 3;
constexpr std::string_view kSpeculationNames[] = {"store bypass", "indirect branches", "L1D flush"};

bool has_io_priority(std::uint32_t value) { return abi::class_of_io_priority(value) != abi::IoPriorityClass::kNone; }

// Only what the thread may choose is worth keeping; the rest depends on the processor.
void save_speculation(std::uint32_t which, std::int64_t state, pb::thread_attributes_entry& to) {
  if (state < 0 || !(state & PR_SPEC_PRCTL)) return;
  pb::speculation_entry& entry = *to.add_speculation();
  entry.set_which(which);
  entry.set_state(static_cast<std::uint32_t>(state));
}

void save_deadline(const sys::SchedAttrWithBounds& attr, pb::thread_attributes_entry& to) {
  if (attr.policy != SCHED_DEADLINE) return;
  pb::deadline_entry& deadline = *to.mutable_deadline();
  deadline.set_runtime(attr.runtime);
  deadline.set_deadline(attr.deadline);
  deadline.set_period(attr.period);
  if (const auto flags = attr.flags & kFlagsOfDeadlines) to.set_scheduling_flags(flags);
}

// Asked for once: the same for a thousand threads.
Result<sys::CpuSet> online_cpus() {
  static const Result<sys::CpuSet> online = [] -> Result<sys::CpuSet> {
    return sys::parse_cpu_list(TRY(sys::read_file(AT_FDCWD, "/sys/devices/system/cpu/online")));
  }();
  return online;
}

bool is_fair(std::uint32_t policy) { return policy == SCHED_NORMAL || policy == SCHED_BATCH; }

// What an ordinary thread gets at a time if it asks for nothing (Linux 6.12; 0 before); the engine is one.
std::uint64_t usual_slice() {
  static const std::uint64_t usual = [] {
    const auto own = sys::sched_getattr_with_bounds(0);
    return own && is_fair(own->policy) ? own->runtime : 0;
  }();
  return usual;
}

Result<> save_place(pid_t tid, pb::thread_attributes_entry& to) {
  const sys::CpuSet cpus = TRY(sys::sched_getaffinity(tid));
  if (!sys::covers(cpus, TRY(online_cpus()))) to.set_cpus(cpus);
  const Result<std::uint32_t> io = sys::ioprio_get(tid);  // ENOSYS: a kernel without block devices
  if (io && has_io_priority(*io)) to.set_io_priority(*io);
  const sys::SchedAttrWithBounds attr = TRY(sys::sched_getattr_with_bounds(tid));
  save_deadline(attr, to);
  if (is_fair(attr.policy) && attr.runtime != usual_slice()) to.set_slice_ns(attr.runtime);
  if (attr.util_min != 0) to.set_util_min(attr.util_min);
  if (attr.util_max != 0) to.set_util_max(attr.util_max);
  return {};
}

void append(parasite::Program& program, std::string label, int operation, std::uint64_t a, std::uint64_t b = 0) {
  program.call(std::move(label), SYS_prctl, {operation, a, b, 0, 0});
}

void append_cpus(parasite::Program& program, const std::string& cpus) {
  // Absent: every CPU, also those that this node has and the other had not.
  std::string set = cpus.empty() ? std::string(128, '\xff') : cpus;
  set.resize((set.size() + 7) / 8 * 8);
  // EINVAL: none of them is here, or the cpuset has none. Then the cpuset decides.
  program.call("CPUs to run on", SYS_sched_setaffinity,
               {0, set.size(), program.data(std::as_bytes(std::span(set)))}, parasite::ok_or(EINVAL));
}

std::optional<std::uint32_t> speculation(const pb::thread_attributes_entry& of, std::uint32_t which) {
  for (const auto& entry : of.speculation())
    if (entry.which() == which) return entry.state();
  return std::nullopt;
}

Result<> append_speculations(parasite::Program& program, const pb::thread_attributes_entry& from,
                             const pb::thread_attributes_entry& own) {
  for (const auto& entry : from.speculation()) {
    const auto here = speculation(own, entry.which());
    // A processor without that weakness has no switch for it.
    if (!here || *here == entry.state()) continue;
    if (entry.which() >= kSpeculations)
      return fail(Error::corrupt(format("there is no speculation control {}", entry.which())));
    append(program, format("speculation: {}", kSpeculationNames[entry.which()]), PR_SET_SPECULATION_CTRL,
           entry.which(), entry.state() & ~std::uint32_t{PR_SPEC_PRCTL});
  }
  return {};
}

// Last of what concerns scheduling: with a deadline, neither CPUs nor priorities may change any more.
void append_scheduling_attributes(parasite::Program& program, const pb::thread_attributes_entry& from) {
  if (from.has_util_min() || from.has_util_max()) {
    sys::SchedAttrWithBounds bounds;
    bounds.flags = SCHED_FLAG_KEEP_ALL | SCHED_FLAG_UTIL_CLAMP;
    bounds.util_min = from.util_min(), bounds.util_max = from.util_max();
    program.call("bounds for the utilisation", SYS_sched_setattr, {0, program.value(bounds), 0},
                 parasite::ok_or(EOPNOTSUPP));
  }
  if (!from.has_deadline()) return;
  abi::SchedAttr attr;
  attr.policy = SCHED_DEADLINE;
  attr.flags = from.scheduling_flags() & kFlagsOfDeadlines;
  attr.runtime = from.deadline().runtime();
  attr.deadline = from.deadline().deadline();
  attr.period = from.deadline().period();
  program.call("scheduling by deadlines (CAP_SYS_NICE)", SYS_sched_setattr, {0, program.value(attr), 0});
}

}  // namespace

Result<> read_thread_attributes(const proc::ProcDir& thread, pb::thread_attributes_entry& to) {
  TRY(save_place(thread.pid(), to));
  const proc::Stat stat = TRY(thread.stat());
  if ((stat.flags & kIoFlusherFlags) == kIoFlusherFlags) to.set_io_flusher(true);
  return {};
}

Result<> read_process_attributes(const Task& task, pb::thread_attributes_entry& to) {
  // A kernel may have neither.
  const Result<std::string> filter = sys::read_file(task.proc.get(), "coredump_filter");
  const auto bits = filter ? parse_number<std::uint32_t>(trim(*filter), 16) : std::nullopt;
  if (bits) to.set_coredump_filter(*bits);
  // "/autogroup-17 nice 5", of the session.
  if (task.ns_sid != task.ns_pid) return {};
  const Result<std::string> group = sys::read_file(task.proc.get(), "autogroup");
  std::string_view rest = group ? trim(*group) : std::string_view();
  const auto nice = parse_number<std::int32_t>(rest.substr(rest.find_last_of(' ') + 1));
  if (nice) to.set_autogroup_nice(*nice);
  return {};
}

AttributesAsked ask_attributes(parasite::Program& program, bool leader) {
  AttributesAsked asked;
  const auto ask = [&](int operation, std::uint64_t which = 0) {
    return program.call("ask for an attribute", SYS_prctl, {operation, which, 0, 0, 0}, parasite::anything());
  };
  asked.timer_slack = ask(PR_GET_TIMERSLACK);
  asked.mce_kill = ask(PR_MCE_KILL_GET);
  asked.tsc = program.zeros(sizeof(int));
  program.call("ask for the time stamp counter", SYS_prctl, {PR_GET_TSC, asked.tsc, 0, 0, 0}, parasite::anything());
  for (std::uint32_t which = 0; which < kSpeculations; ++which)
    asked.speculation[which] = ask(PR_GET_SPECULATION_CTRL, which);
  asked.memory_policy = ask_thread_policy(program);
  if (!leader) return asked;
  asked.mdwe = ask(kGetMdwe);
  asked.memory_merge = ask(kGetMemoryMerge);
  asked.thp = ask(PR_GET_THP_DISABLE);
  return asked;
}

void save_attributes(const parasite::Placed& placed, const AttributesAsked& asked, pb::thread_attributes_entry& to) {
  // 0 for a thread with a real-time policy, whose timers have none.
  if (const auto slack = placed.result(asked.timer_slack); slack > 0)
    to.set_timer_slack_ns(static_cast<std::uint64_t>(slack));
  if (const auto policy = placed.result(asked.mce_kill); policy >= 0)
    to.set_mce_kill(static_cast<std::uint32_t>(policy));
  if (const int tsc = placed.value<int>(asked.tsc); tsc != 0) to.set_tsc(static_cast<std::uint32_t>(tsc));
  for (std::uint32_t which = 0; which < kSpeculations; ++which)
    save_speculation(which, placed.result(asked.speculation[which]), to);
  save_thread_policy(placed, asked.memory_policy, to);
  if (asked.mdwe && placed.result(*asked.mdwe) > 0)
    to.set_mdwe(static_cast<std::uint32_t>(placed.result(*asked.mdwe)));
  if (asked.memory_merge && placed.result(*asked.memory_merge) > 0) to.set_memory_merge(true);
  // The lowest bit is in mm-N; the others say what is exempt.
  if (asked.thp && placed.result(*asked.thp) > 1)
    to.set_thp_flags(static_cast<std::uint32_t>(placed.result(*asked.thp)) & ~1u);
}

Result<pb::thread_attributes_entry> own_attributes() {
  pb::thread_attributes_entry own;
  TRY(save_place(0, own));
  const auto get = [](int operation, unsigned long which = 0) { return sys::prctl(operation, which).value_or(-1); };
  if (const int slack = get(PR_GET_TIMERSLACK); slack > 0) own.set_timer_slack_ns(static_cast<std::uint64_t>(slack));
  if (const int policy = get(PR_MCE_KILL_GET); policy >= 0) own.set_mce_kill(static_cast<std::uint32_t>(policy));
  int tsc = PR_TSC_ENABLE;
  (void)sys::prctl(PR_GET_TSC, reinterpret_cast<unsigned long>(&tsc));
  own.set_tsc(static_cast<std::uint32_t>(tsc));
  for (std::uint32_t which = 0; which < kSpeculations; ++which)
    save_speculation(which, get(PR_GET_SPECULATION_CTRL, which), own);
  save_own_policy(own);
  if (const int mdwe = get(kGetMdwe); mdwe > 0) own.set_mdwe(static_cast<std::uint32_t>(mdwe));
  if (get(kGetMemoryMerge) > 0) own.set_memory_merge(true);
  const Result<std::string> filter = sys::read_file(AT_FDCWD, "/proc/self/coredump_filter");
  const auto bits = filter ? parse_number<std::uint32_t>(trim(*filter), 16) : std::nullopt;
  if (bits) own.set_coredump_filter(*bits);
  return own;
}

Result<> append_thread_attributes(parasite::Program& program, const pb::thread_attributes_entry& from,
                                  const pb::thread_attributes_entry& own) {
  // A thread with a deadline may run everywhere, or its time could not be promised.
  if (from.cpus() != own.cpus() && !from.has_deadline()) append_cpus(program, from.cpus());
  if (from.io_priority() != own.io_priority())
    program.call("priority for input and output", SYS_ioprio_set, {abi::kIoPriorityOfProcess, 0, from.io_priority()});
  append_thread_policy(program, from, own);
  if (from.has_timer_slack_ns() && from.timer_slack_ns() != own.timer_slack_ns())
    append(program, "timer slack", PR_SET_TIMERSLACK, from.timer_slack_ns());
  if (from.has_mce_kill() && from.mce_kill() != own.mce_kill())
    append(program, "what to do about damaged memory", PR_MCE_KILL, PR_MCE_KILL_SET, from.mce_kill());
  if (from.has_tsc() && from.tsc() != own.tsc()) append(program, "time stamp counter", PR_SET_TSC, from.tsc());
  TRY(append_speculations(program, from, own));
  if (from.io_flusher()) append(program, "part of writing back (CAP_SYS_RESOURCE)", kSetIoFlusher, 1);
  append_scheduling_attributes(program, from);
  return {};
}

void append_slice(parasite::Program& program, const pb::thread_attributes_entry& from, int nice) {
  if (!from.has_slice_ns()) return;
  abi::SchedAttr attr;
  attr.flags = SCHED_FLAG_KEEP_POLICY;  // the nice value cannot be kept without the slice
  attr.nice = nice;
  attr.runtime = from.slice_ns();
  program.call("how long it runs at a time", SYS_sched_setattr, {0, program.value(attr), 0});
}

void append_process_attributes(parasite::Program& program, const pb::thread_attributes_entry& from,
                               const pb::thread_attributes_entry& own) {
  if (from.thp_flags() != 0) append(program, "exemptions from no huge pages", PR_SET_THP_DISABLE, 1, from.thp_flags());
  if (from.memory_merge() != own.memory_merge())
    append(program, "merge equal pages", kSetMemoryMerge, from.memory_merge());
  if (from.mdwe() != own.mdwe()) append(program, "no memory both written and executed", kSetMdwe, from.mdwe());
}

void apply_attributes(Log& log, const proc::ProcDir& proc, const pb::thread_attributes_entry& from,
                      const pb::thread_attributes_entry& own) {
  const auto write = [&](const char* file, const std::string& text) {
    if (Result<> done = sys::write_file(proc.fd(), file, text); !done)
      log.warn("{} '{}' of {}: {}", file, text, proc.pid(), done.error().message());
  };
  if (from.has_coredump_filter() && from.coredump_filter() != own.coredump_filter())
    write("coredump_filter", format("{:#x}", from.coredump_filter()));
  if (from.autogroup_nice() != 0) write("autogroup", format("{}", from.autogroup_nice()));
}

}  // namespace dormouse::engine
