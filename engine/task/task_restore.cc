#include "engine/task/task_restore.h"

#include "base/text.h"
#include "engine/memory/memory_attributes.h"
#include "engine/task/attributes.h"
#include "engine/task/audit.h"
#include "engine/task/credentials.h"
#include "engine/task/limits.h"
#include "engine/task/restartable.h"
#include "engine/task/scheduling.h"
#include "engine/task/seccomp.h"
#include "engine/task/settings.h"
#include "engine/task/signals.h"
#include "engine/task/timers.h"
#include "kernel/features.h"
#include "kernel/file.h"
#include "kernel/proc/directory.h"

namespace dormouse::engine {
namespace {

std::string name_of(const ImageTask& task) {
  return format("pid {} ({})", task.tree.pid(), task.core.tc().comm());
}

// A wrong adjustment makes the kernel pick another victim when memory runs out, nothing worse: a node that
// does not allow it is no reason to fail.
void apply_oom_adjustment(Log& log, const proc::ProcDir& proc, std::int32_t wanted) {
  const Result<std::string> now = proc.read("oom_score_adj");
  if (now && parse_number<std::int32_t>(trim(*now)) == wanted) return;
  if (Result<> set = sys::write_file(proc.fd(), "oom_score_adj", format("{}", wanted)); !set)
    log.debug("oom_score_adj {} of {}: {}", wanted, proc.pid(), set.error().message());
}

Result<> append_identity(parasite::Program& program, const RestoreContext& context, const pb::creds_entry& creds) {
  const std::string& option = context.options.lsm_profile;
  if (creds.lsm_profile().empty() && option.empty()) return append_credentials(program, creds);
  const SecurityModule here = security_module();
  const auto saved_by = static_cast<SecurityModule>(context.image.inventory.lsmtype());
  const std::string label = TRY(label_to_restore(here, saved_by, creds.lsm_profile(), option));
  return append_credentials(program, creds, here, label);
}

// It would be sent at once to a root task whose parent, the engine, is about to end.
std::uint32_t death_signal(const RestoreContext& context, const ImageTask& task, const pb::thread_core_entry& thread) {
  if (thread.pdeath_sig() == 0 || task.tree.ppid() != 0 || !context.options.parent_ends) return thread.pdeath_sig();
  context.log.warn("{} is not told any more ({}) when its parent ends: that would be now", name_of(task),
                   signal_name(static_cast<int>(thread.pdeath_sig())));
  return 0;
}

// `core`: of one of its threads.
std::uint32_t tid_of(const ImageTask& task, const pb::core_entry& core) {
  for (const auto& [number, one] : task.thread_cores)
    if (&one == &core) return number;
  return task.tree.pid();
}

// Null in images of the reference.
const pb::thread_attributes_entry* attributes_of(const ImageTask& task, const pb::core_entry& core) {
  const auto found = task.attributes.find(tid_of(task, core));
  return found == task.attributes.end() ? nullptr : &found->second;
}

}  // namespace

Result<Inherited> Inherited::of_engine() {
  Inherited all;
  all.attributes = TRY(own_attributes());
  all.login_uid = own_login_uid();
  return all;
}

std::vector<const pb::core_entry*> cores_of(const ImageTask& task) {
  std::vector<const pb::core_entry*> cores{&task.core};
  for (const auto& [tid, core] : task.thread_cores) cores.push_back(&core);
  return cores;
}

Result<> append_process_state(parasite::Program& program, const RestoreContext& context, const ImageTask& task) {
  const pb::task_core_entry& core = task.core.tc();
  const auto append = [&]() -> Result<> {
    TRY(append_signal_actions(program, core));
    if (core.timers().posix_size() > 0) {
      const auto features = TRY(sys::Features::make(context.options.without));
      TRY(append_timer_creation(program, core.timers(), features.has(sys::Feature::kTimerRestoreIds)));
    }
    append_process_settings(program, core, task.mm && task.mm->thp_disabled());
    append_memory_attributes(program, task.memory_attributes);
    return {};
  };
  TRY_OR(append(), std::move(e).owner(name_of(task)));
  return {};
}

Result<> append_queued_signals(parasite::Program& program, const ImageTask& task, const pb::core_entry& core,
                               const LateTimers& late) {
  const auto append = [&]() -> Result<> {
    if (!late.empty()) append_overruns(program, task.core.tc().timers(), late, tid_of(task, core), core.has_tc());
    if (core.has_tc()) TRY(append_queue(program, core.tc().signals_s(), QueueOf::kProcess, late));
    return append_queue(program, core.thread_core().signals_p(), QueueOf::kThread, late);
  };
  TRY_OR(append(), std::move(e).owner(name_of(task)));
  return {};
}

Result<> append_thread_state(parasite::Program& program, const RestoreContext& context, const ImageTask& task,
                             const pb::core_entry& core, const Inherited& inherited, const LateTimers& late) {
  const pb::thread_core_entry& thread = core.thread_core();
  const auto append = [&]() -> Result<> {
    TRY(append_thread_settings(program, task.core.tc(), core));
    if (task.core.tc().has_loginuid()) append_login_uid(program, task.core.tc().loginuid(), inherited.login_uid);
    append_scheduling(program, thread);
    if (const pb::thread_attributes_entry* attributes = attributes_of(task, core)) {
      TRY(append_thread_attributes(program, *attributes, inherited.attributes));
      append_slice(program, *attributes, thread.sched_nice());
      if (core.has_tc()) append_process_attributes(program, *attributes, inherited.attributes);
    }
    if (thread.has_sas()) append_alternate_stack(program, thread.sas());
    if (thread.has_rseq_entry()) append_restartable(program, thread.rseq_entry());
    // From here on privileges go away.
    TRY(append_seccomp(program, thread, context.image.seccomp ? &*context.image.seccomp : nullptr));
    TRY(append_identity(program, context, thread.creds()));
    append_late_settings(program, task.mm ? &*task.mm : nullptr, death_signal(context, task, thread));
    // Only the leader's core has the process's part. Timers run from here: nothing is left to be done in the task.
    if (core.has_tc() && core.tc().has_timers()) TRY(append_timer_start(program, core.tc().timers(), late));
    return {};
  };
  TRY_OR(append(), std::move(e).owner(name_of(task)));
  return {};
}

Result<> apply_from_outside(const RestoreContext& context, const ImageTask& task, pid_t pid,
                            const Inherited& inherited) {
  const pb::task_core_entry& core = task.core.tc();
  const proc::ProcDir proc = TRY_OR(proc::ProcDir::open(pid), std::move(e).owner(name_of(task)));
  if (core.has_oom_score_adj()) apply_oom_adjustment(context.log, proc, core.oom_score_adj());
  if (const auto attributes = task.attributes.find(task.tree.pid()); attributes != task.attributes.end())
    apply_attributes(context.log, proc, attributes->second, inherited.attributes);
  if (!core.has_rlimits()) return {};
  const Limits now = TRY_OR(proc.limits(), std::move(e).owner(name_of(task)));
  TRY_OR(apply_limits(pid, now, core.rlimits()), std::move(e).owner(name_of(task)));
  return {};
}

}  // namespace dormouse::engine
