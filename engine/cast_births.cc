// Cast: who is born of whom, sessions, process groups, and those who have ended.

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/format.h"
#include "engine/cast.h"
#include "engine/ipc/attachments.h"
#include "kernel/file.h"
#include "kernel/proc/directory.h"

namespace dormouse::engine {
namespace {

constexpr std::uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

// A number that no task of the image has, and nobody else at this moment; 0: whatever the kernel chooses.
pid_t free_number(pid_t from) {
  constexpr int kAttempts = 1000;
  for (pid_t number = from; number < from + kAttempts; ++number)
    if (!sys::faccessat(AT_FDCWD, format("/proc/{}", number), F_OK)) return number;
  return 0;
}

std::string name_of(const ImageTask& task) { return format("pid {} ({})", task.tree.pid(), task.core.tc().comm()); }

}  // namespace

void Cast::know_by_number() {
  for (Actor& actor : actors_)
    for (parasite::Puppet& puppet : actor.threads) by_number_[puppet.ns_tid] = &puppet;
  for (parasite::Puppet& stand_in : stand_ins_) by_number_[stand_in.ns_tid] = &stand_in;
}

Result<> Cast::raise_tree() {
  TRY(raise(actors_.front()));
  for (std::size_t i = 0; i < family_.adoptions.size(); ++i) TRY(bear_orphans(i));
  for (std::size_t i = 0; i < stand_ins_.size(); ++i)
    if (stand_ins_[i].tid == 0) TRY(spawn_stand_in(i));
  TRY(make_and_join_groups());
  for (std::size_t i = family_.adoptions.size(); i-- > 0;) TRY(adopt(i));
  TRY(dismiss_stand_ins());
  TRY(bury_zombies());
  parasite::Program removals;
  append_removals(removals, context_.image);
  return run(actors_.front(), removals);
}

// Once the process is there: its children, memory, session and threads, and then the same for each child.
Result<> Cast::raise(Actor& actor) {
  const FamilyMember& member = *actor.family;
  const bool alive = actor.image->alive(), has_own_memory = alive && (member.owns & CLONE_VM);
  parasite::Program first;
  if (has_own_memory && !member.inherits_memory && actor.holds_memory) yard_->append_unmap_all(first);
  if (member.makes_session && member.session_first) first.call("lead a session", SYS_setsid, {});
  TRY(run(actor, first));
  if (!alive) return {};
  if (has_own_memory && !member.inherits_memory) actor.holds_memory = false;
  TRY(spawn_children(actor, BornWhen::kEmpty));
  for (const std::size_t adoption : member.early_midwives) TRY(spawn_midwife(adoption));
  if (has_own_memory) TRY(build_memory(actor));
  actor.holds_memory = true;
  TRY(spawn_children(actor, BornWhen::kWithMemory));
  parasite::Program second;
  if (member.makes_session && !member.session_first) second.call("lead a session", SYS_setsid, {});
  TRY(run(actor, second));
  TRY(spawn_children(actor, BornWhen::kInSession));
  parasite::Program third;
  if (actor.memory) actor.memory->append_late_advice(third);
  TRY(run(actor, third));
  TRY(spawn_threads(actor));
  return raise_all(member.children);
}

Result<> Cast::spawn_children(Actor& parent, BornWhen when) {
  parasite::Program program;
  std::vector<std::size_t> children;
  for (const std::size_t index : parent.family->children) {
    Actor& child = actors_[index];
    if (child.family->born != when) continue;
    const parasite::Puppet& puppet = child.threads.front();
    TRY(yard_->prepare(puppet.slot, true));
    yard_->append_spawn(program, puppet, child.family->shares, exit_signal_of(child));
    child.holds_memory = parent.holds_memory;
    child.executable = parent.executable;
    children.push_back(index);
  }
  if (children.empty()) return {};
  Result<> ran = run(parent, program);
  TRY(meet_children(parent.threads.front()));  // also those that were born before a failure have to be ended
  return ran ? Result<>{} : explain_taken_pid(std::move(ran), children);
}

int Cast::exit_signal_of(const Actor& actor) const {
  const auto kin = context_.image.exit_signals.find(actor.image->tree.pid());
  return kin == context_.image.exit_signals.end() ? SIGCHLD : kin->second;
}

Result<> Cast::explain_taken_pid(Result<> ran, std::span<const std::size_t> children) const {
  if (!ran.error().is_kernel(EEXIST)) return ran;
  for (const std::size_t index : children)
    if (actors_[index].threads.front().tid == 0) return fail(pid_taken(actors_[index].threads.front().ns_tid));
  return ran;
}

// The engine sees its puppets under other numbers than they do when they have a pid namespace.
Result<> Cast::meet_children(const parasite::Puppet& of) {
  const auto dir = TRY(proc::ProcDir::open(of.tid));
  for (const auto all = TRY(dir.children()); const pid_t pid : all) {
    if (!met_.insert(pid).second) continue;
    const pid_t ns_pid = own_pid_namespace_ ? TRY(TRY(proc::ProcDir::open(pid)).status()).ns_pid.back() : pid;
    context_.log.debug("{} has child {} ({})", of.name, ns_pid, pid);
    const auto known = by_number_.find(ns_pid);
    if (known == by_number_.end() && newest_midwife_ >= midwives_.size())
      return fail(Error::unsupported(format("has child {}, which nobody asked for", ns_pid)).object(of.name));
    parasite::Puppet& puppet = known == by_number_.end() ? midwives_[newest_midwife_] : *known->second;
    puppet.tid = pid;
    TRY(yard_->seize(puppet));
  }
  return {};
}

Result<> Cast::spawn_midwife(std::size_t index) {
  const Adoption& adoption = family_.adoptions[index];
  parasite::Puppet& midwife = midwives_[index];
  newest_midwife_ = index;
  constexpr int kAttempts = 20;
  // Not one that the kernel chooses: somebody who is yet to be born may need it.
  pid_t number = helper_tid_ + 1 + static_cast<pid_t>(index);
  Result<> ran;
  for (int i = 0; i < kAttempts; ++i, number = midwife.ns_tid + 1) {
    midwife.ns_tid = own_pid_namespace_ ? number : free_number(number);
    parasite::Program program;
    TRY(yard_->prepare(midwife.slot, true));
    yard_->append_spawn(program, midwife, adoption.shares, SIGCHLD);
    const auto placed = yard_->run(giver_of(adoption), program);
    ran = placed ? Result<>() : fail(placed.error());
    // On the node, others are born meanwhile, and groups hold numbers that no process has.
    if (ran || own_pid_namespace_ || !ran.error().is_kernel(EEXIST)) break;
  }
  TRY(meet_children(giver_of(adoption)));
  if (!ran) return ran;
  if (midwife.tid == 0) return fail(Error::task_died("a midwife was born and not found").owner(giver_of(adoption).name));
  return {};
}

Result<> Cast::bear_orphans(std::size_t index) {
  const Adoption& adoption = family_.adoptions[index];
  if (adoption.by_stand_in && stand_ins_[adoption.giver].tid == 0) TRY(spawn_stand_in(adoption.giver));
  if (!adoption.early && !adoption.as_siblings) TRY(spawn_midwife(index));
  parasite::Program births;
  for (const std::size_t child : adoption.children) {
    Actor& actor = actors_[child];
    TRY(yard_->prepare(actor.threads.front().slot, true));
    yard_->append_spawn(births, actor.threads.front(), actor.family->shares | (adoption.as_siblings ? CLONE_PARENT : 0),
                        adoption.as_siblings ? 0 : SIGCHLD);
    actor.holds_memory = true;
    if (!adoption.as_siblings && exit_signal_of(actor) != SIGCHLD)
      context_.log.warn("{} will tell its parent of its end by SIGCHLD, not by signal {}", name_of(*actor.image), exit_signal_of(actor));
  }
  Result<> ran;
  const parasite::Puppet& giver = adoption.as_siblings ? giver_of(adoption) : midwives_[index];
  if (const auto placed = yard_->run(giver, births); !placed) ran = fail(placed.error());
  TRY(meet_children(adoption.as_siblings ? actors_[adoption.parent].threads.front() : giver));
  if (!ran) return explain_taken_pid(std::move(ran), adoption.children);
  return raise_all(adoption.children);
}

// Children of a process that ends go to the nearest ancestor that is a child subreaper, and there is one: the
// tasks' own settings come later. The init of a pid namespace needs none.
Result<> Cast::adopt(std::size_t index) {
  const Adoption& adoption = family_.adoptions[index];
  if (adoption.as_siblings) return {};
  const Actor& parent = actors_[adoption.parent];
  const auto set_subreaper = [&](int on) -> Result<> {
    if (adoption.parent == 0 && own_pid_namespace_) return {};
    parasite::Program program;
    program.call("adopt orphans", SYS_prctl, {PR_SET_CHILD_SUBREAPER, on, 0, 0, 0});
    return run(parent, program);
  };
  TRY(set_subreaper(1));
  TRY(dismiss(midwives_[index], giver_of(adoption), SIGCHLD));
  midwives_[index].tid = 0;
  return set_subreaper(0);
}

Result<> Cast::spawn_stand_in(std::size_t index) {
  const StandIn& plan = family_.stand_ins[index];
  const parasite::Puppet& parent = actors_[plan.parent].threads.front();
  parasite::Program birth;
  TRY(yard_->prepare(stand_ins_[index].slot, true));
  yard_->append_spawn(birth, stand_ins_[index], 0, plan.exit_signal);
  const auto ran = yard_->run(parent, birth);
  TRY(meet_children(parent));
  if (!ran) return fail(ran.error().is_kernel(EEXIST) ? pid_taken(stand_ins_[index].ns_tid) : ran.error());
  parasite::Program program;
  if (plan.leads_session) program.call("stand in for a session's leader", SYS_setsid, {});
  else program.call("stand in for a group's leader", SYS_setpgid, {0, 0});
  TRY(yard_->run(stand_ins_[index], program));
  return {};
}

// It ends, and its parent collects it: what the engine has seen of it as its tracer the parent sees then.
Result<> Cast::dismiss(const parasite::Puppet& who, const parasite::Puppet& parent, int exit_signal) {
  parasite::Program end;
  end.call("", SYS_exit_group, {0});
  const auto ran = yard_->run(who, end);
  if (ran || ran.error().kind() != Error::Kind::kTaskDied)
    return fail(Error::unsupported("it did not end as it should").object(who.name));
  const pid_t number = who.ns_tid != 0 ? who.ns_tid : who.tid;
  parasite::Program collect;
  collect.call(format("collect {}", who.name), SYS_wait4, {number, 0, __WALL, 0}, parasite::exactly(number));
  const auto set = collect.value(std::uint64_t{1} << ((exit_signal != 0 ? exit_signal : SIGCHLD) - 1));
  const auto now = collect.zeros(sizeof(timespec));
  collect.call("drop the signal of its end", SYS_rt_sigtimedwait, {set, 0, now, 8}, parasite::ok_or(EAGAIN));
  TRY(yard_->run(parent, collect));
  return {};
}

Result<> Cast::dismiss_stand_ins() {
  for (std::size_t i = 0; i < stand_ins_.size(); ++i) {
    const StandIn& plan = family_.stand_ins[i];
    TRY(dismiss(stand_ins_[i], actors_[plan.parent].threads.front(), plan.exit_signal));
    stand_ins_[i].tid = 0;
  }
  return {};
}

Result<> Cast::spawn_threads(Actor& actor) {
  if (actor.threads.size() == 1) return {};
  parasite::Program program;
  for (std::size_t i = 1; i < actor.threads.size(); ++i) {
    TRY(yard_->prepare(actor.threads[i].slot, true));
    yard_->append_spawn(program, actor.threads[i], kThreadFlags, 0);
  }
  TRY(run(actor, program));
  const auto dir = TRY(proc::ProcDir::open(actor.threads.front().tid));
  for (const auto all = TRY(dir.threads()); const pid_t tid : all) {
    if (tid == actor.threads.front().tid) continue;
    const pid_t ns_tid = own_pid_namespace_ ? TRY(TRY(dir.thread(tid)).status()).ns_pid.back() : tid;
    const auto known = by_number_.find(ns_tid);
    if (known == by_number_.end()) continue;
    known->second->tid = tid;
    TRY(yard_->seize(*known->second));
  }
  return {};
}

// First all groups are made; then they are joined, by those last whose own group others join before they leave.
Result<> Cast::make_and_join_groups() {
  const auto all = [this](auto wanted, auto add) -> Result<> {
    std::vector<std::unique_ptr<parasite::Program>> programs;
    yard_->area().rewind();
    parasite::Batch batch(keeper_);
    for (const Actor& actor : actors_) {
      if (!wanted(*actor.family)) continue;
      auto& program = *programs.emplace_back(std::make_unique<parasite::Program>());
      add(program, actor);
      const parasite::Puppet& leader = actor.threads.front();
      TRY(batch.add(yard_->area(), leader.slot, leader.tid, leader.name, program));
    }
    return batch.run();
  };
  const auto join = [](parasite::Program& program, const Actor& actor) {
    const std::uint32_t group = actor.image->tree.pgid();
    program.call(format("join process group {}", group), SYS_setpgid, {0, group});
  };
  TRY(all([](const FamilyMember& m) { return m.makes_group; },
          [](parasite::Program& program, const Actor&) { program.call("lead a process group", SYS_setpgid, {0, 0}); }));
  TRY(all([](const FamilyMember& m) { return m.joins_group && !m.makes_group; }, join));
  return all([](const FamilyMember& m) { return m.joins_group && m.makes_group; }, join);
}

Result<> Cast::bury_zombies() {
  for (const Actor& actor : actors_)
    if (!actor.image->alive()) TRY(bury(actor));
  return {};
}

// A zombie's wait status: an exit code, or the signal that ended it. Its parent looks whether it is right, and
// drops the news, which it was told before the checkpoint.
Result<> Cast::bury(const Actor& actor) {
  const auto status = static_cast<int>(actor.image->core.tc().exit_code());
  const parasite::Puppet& dead = actor.threads.front();
  parasite::Program program;
  const auto comm = program.text(actor.image->core.tc().comm());
  program.call("", SYS_prctl, {PR_SET_NAME, comm});
  if (WIFSIGNALED(status)) {
    // No core file, wherever this node puts them.
    program.call("", SYS_prctl, {PR_SET_DUMPABLE, 0, 0, 0, 0});
    // Delivered when it is unblocked, with the default action: a puppet has no handlers.
    const auto none = program.value(std::uint64_t{0});
    program.call("", SYS_kill, {dead.ns_tid, WTERMSIG(status)});
    program.call("", SYS_rt_sigprocmask, {SIG_SETMASK, none, 0, 8}, parasite::anything());
  }
  program.call("", SYS_exit_group, {WEXITSTATUS(status)});
  keeper_.deliver_signals(dead.tid);
  const Result<> ran = run(actor, program);
  if (ran || ran.error().kind() != Error::Kind::kTaskDied)
    return fail(Error::unsupported("it did not end as it should").object(name_of(*actor.image)));
  parasite::Program look;
  const auto info = look.zeros(sizeof(siginfo_t));
  look.call("look at a zombie", SYS_waitid, {P_PID, dead.ns_tid, info, WEXITED | WNOWAIT | __WALL, 0});
  const int signal = exit_signal_of(actor);
  const auto set = look.value(std::uint64_t{1} << ((signal != 0 ? signal : SIGCHLD) - 1));
  const auto now = look.zeros(sizeof(timespec));
  look.call("drop the signal of a child's end", SYS_rt_sigtimedwait, {set, 0, now, 8}, parasite::ok_or(EAGAIN));
  const auto seen = TRY(yard_->run(actor.parent->threads.front(), look)).value<siginfo_t>(info);
  const int wanted = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
  if (seen.si_status == wanted && (seen.si_code == CLD_EXITED) == !WIFSIGNALED(status)) return {};
  return fail(Error::corrupt(format("a process cannot end with wait status {:#x}", status)).object(name_of(*actor.image)).owner("the image"));
}

}  // namespace dormouse::engine
