// Cast: descriptors, the state of tasks and threads, and the way out of the interpreter.

#include <elf.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include <algorithm>

#include "base/format.h"
#include "engine/cast.h"
#include "engine/files/proc_path.h"
#include "engine/plan/groups.h"
#include "engine/task/settings.h"
#include "kernel/process.h"
#include "kernel/ptrace.h"
#include "parasite/host/attended.h"
#include "parasite/host/context.h"
#include "parasite/host/gadgets.h"

namespace dormouse::engine {

// Descriptors on their way to a task go through its table, which must be empty then: those who use the table of
// another task get theirs before that one gets its table.
Result<> Cast::install_files() {
  watches_ = epoll_watches(context_.image);
  TRY(take_terminals());
  TRY(open_files_about_descriptors());
  parasite::Pipeline pipeline(*yard_);
  for (Actor& actor : actors_) {
    if (!actor.image->alive() || (actor.family->owns & CLONE_FILES)) continue;
    TRY(install_files(actor, pipeline));
    TRY(pipeline.finish());  // others may share that table
  }
  for (Actor& actor : actors_)
    if (actor.image->alive() && (actor.family->owns & CLONE_FILES)) TRY(install_files(actor, pipeline));
  TRY(pipeline.finish());
  TRY(files_->refill());
  return take_locks();
}

// /proc/PID/fdinfo/N can be opened only while the process has a descriptor N. Any will do: the kernel looks when the file
// is read.
Result<> Cast::open_files_about_descriptors() {
  for (const auto& [id, file] : context_.image.files) {
    const auto told = file.has_reg() ? descriptor_told_of(file.reg().name()) : std::nullopt;
    if (!told) continue;
    const auto puppet = by_number_.find(told->pid);
    if (puppet == by_number_.end()) continue;
    const auto actor = std::ranges::find_if(actors_, [&](const Actor& each) {
      return std::ranges::any_of(each.threads, [&](const auto& thread) { return &thread == puppet->second; });
    });
    if (actor == actors_.end() || !actor->image->alive()) continue;
    const auto table = context_.image.descriptors.find(actor->image->ids.files_id());
    if (table == context_.image.descriptors.end()) continue;
    if (std::ranges::find(table->second, told->number, &pb::fdinfo_entry::fd) == table->second.end()) continue;
    parasite::Program hold, let_go;
    hold.call(format("hold descriptor {}", told->number), SYS_dup3, {service_.first_number, told->number, 0});
    let_go.call(format("let go of descriptor {}", told->number), SYS_close, {told->number});
    TRY(run(*actor, hold));
    TRY_OR(files_->open(id), std::move(e).owner("the image"));
    TRY(run(*actor, let_go));
  }
  return {};
}

namespace {

// What a task or thread has of its own, and the numbers of the descriptors as they arrived.
struct Directories {
  std::uint32_t cwd_id, root_id, umask;
  std::size_t cwd = 0, root = 0;
};

void append_directories(parasite::Program& program, const Directories& own, const Image& image) {
  const auto [cwd_id, root_id, umask, cwd, root] = own;
  if (image.files.at(root_id).reg().name() != "/") {
    const auto here = program.text(".");
    program.call("go to the root directory", SYS_fchdir, {root});
    program.call("change the root directory", SYS_chroot, {here});
  }
  program.call("change the working directory", SYS_fchdir, {cwd});
  program.call("", SYS_close, {root});
  program.call("", SYS_close, {cwd});
  program.call("", SYS_umask, {umask});
}

std::optional<Directories> own_directories(const ImageTask& task, pid_t tid) {
  const auto found = task.attributes.find(static_cast<std::uint32_t>(tid));
  if (found == task.attributes.end() || !found->second.has_directories()) return std::nullopt;
  const pb::own_directories_entry& own = found->second.directories();
  return Directories{own.cwd_id(), own.root_id(), own.umask()};
}

void append_table(parasite::Program& program, const std::vector<pb::fdinfo_entry>& table) {
  for (std::size_t i = table.size(); i-- > 0;) {
    const auto number = static_cast<std::size_t>(table[i].fd());
    const bool cloexec = table[i].flags() & FD_CLOEXEC;
    if (number != i) {
      program.call(format("install descriptor {}", number), SYS_dup3, {i, number, cloexec ? O_CLOEXEC : 0});
      program.call("", SYS_close, {i});
    } else if (cloexec) {
      program.call(format("close descriptor {} on exec", number), SYS_fcntl, {number, F_SETFD, FD_CLOEXEC});
    }
  }
}

}  // namespace

// Descriptors arrive as 0, 1, 2, … in ascending order of the numbers they are to have, so that each
// number is at least as high as the one it arrived under: moved from the top down, none is overwritten.
Result<> Cast::install_files(Actor& actor, parasite::Pipeline& pipeline) {
  const ImageTask& image = *actor.image;
  const auto open = [&](std::uint32_t id) -> Result<int> {
    return TRY_OR(files_->open(id), std::move(e).owner(actor.threads.front().name));
  };
  std::vector<pb::fdinfo_entry> table;
  if (actor.family->owns & CLONE_FILES) table = context_.image.descriptors.at(image.ids.files_id());
  std::sort(table.begin(), table.end(), [](const auto& a, const auto& b) { return a.fd() < b.fd(); });
  std::vector<int> descriptors;
  for (const pb::fdinfo_entry& entry : table) descriptors.push_back(TRY(open(entry.id())));
  // The leader's, which are the process's, come last: threads of their own take theirs through the common table.
  std::vector<std::pair<const parasite::Puppet*, Directories>> all;
  for (std::size_t i = 1; i < actor.threads.size(); ++i)
    if (auto own = own_directories(image, actor.threads[i].ns_tid)) all.emplace_back(&actor.threads[i], *own);
  if (actor.family->owns & CLONE_FS)
    all.emplace_back(&actor.threads.front(), Directories{image.fs->cwd_id(), image.fs->root_id(), image.fs->umask()});
  for (auto& [puppet, own] : all) {
    own.cwd = descriptors.size(), own.root = own.cwd + 1;
    descriptors.push_back(TRY(open(own.cwd_id)));
    descriptors.push_back(TRY(open(own.root_id)));
  }
  parasite::Program program;
  const parasite::Puppet& leader = actor.threads.front();
  const bool threads_take_some = std::ranges::any_of(all, [&](const auto& each) { return each.first != &leader; });
  Handover handover;
  if (fit_into_one_message(descriptors) && !threads_take_some) {
    handover = TRY(append_hand_out(program, TRY(pipeline.next_lane()), descriptors));
  } else {
    TRY(pipeline.finish());
    TRY(hand_out(leader, descriptors));
  }
  for (const auto& [puppet, own] : all) {
    if (puppet == &leader) {
      append_directories(program, own, context_.image);
      continue;
    }
    parasite::Program apart;
    apart.call("directories of its own", SYS_unshare, {CLONE_FS});
    append_directories(apart, own, context_.image);
    TRY(yard_->run(*puppet, apart));
  }
  const auto done = [&leader, handover](const parasite::Placed& placed) { return check_arrival(leader, handover, placed); };
  if (!(actor.family->owns & CLONE_FILES)) return program.empty() ? Result<>{} : pipeline.start(leader, std::move(program), done);
  append_table(program, table);
  if (const auto watches = watches_.find(actor.image->ids.files_id()); watches != watches_.end()) {
    for (const EpollWatch& watch : watches->second) {
      struct [[gnu::packed]] {  // struct epoll_event of x86-64
        std::uint32_t events;
        std::uint64_t data;
      } event{watch.events, watch.data};
      program.call(format("watch descriptor {} with epoll {}", watch.target, watch.epoll), SYS_epoll_ctl,
                   {watch.epoll, EPOLL_CTL_ADD, watch.target, program.value(event)});
    }
  }
  program.call("close the service sockets", SYS_close_range, {service_.first_number, service_.last_number(), 0});
  return pipeline.start(leader, std::move(program), done);
}

// What time it is for timers that are late.
Result<> Cast::look_at_timers() {
  for (Actor& actor : actors_) {
    if (!actor.image->alive()) continue;
    const auto cores = cores_of(*actor.image);
    TimerClocks clocks;
    parasite::Program program;
    clocks.ask(program, cores);
    if (program.empty()) continue;
    parasite::Batch batch(keeper_);
    const parasite::Puppet& leader = actor.threads.front();
    TRY(batch.add(yard_->area(), leader.slot, leader.tid, leader.name, program));
    TRY(batch.run());
    clocks.take(batch.placed(0));
    actor.late = TRY_OR(clocks.plan(cores), std::move(e).owner(leader.name));
    yard_->area().rewind();
  }
  return {};
}

Result<> Cast::restore_state() {
  TRY(place_in_cgroups());
  TRY(look_at_timers());
  const Inherited inherited = TRY(Inherited::of_engine());
  parasite::Pipeline pipeline(*yard_);
  for (Actor& actor : actors_) {
    if (!actor.image->alive()) continue;
    parasite::Program program;
    TRY(append_process_state(program, context_, *actor.image));
    TRY(pipeline.start(actor.threads.front(), std::move(program)));
  }
  TRY(pipeline.finish());
  // With all actions set, and before there is a limit that they may exceed.
  for (Actor& actor : actors_) {
    if (!actor.image->alive()) continue;
    for (const parasite::Puppet& puppet : actor.threads) {
      parasite::Program program;
      TRY(append_queued_signals(program, *actor.image, core_of(actor, puppet), actor.late));
      if (!program.empty()) TRY(pipeline.start(puppet, std::move(program)));
    }
  }
  TRY(pipeline.finish());
  for (Actor& actor : actors_) {
    if (!actor.image->alive()) continue;
    TRY(apply_from_outside(context_, *actor.image, actor.threads.front().tid, inherited));
    for (const parasite::Puppet& puppet : actor.threads) {
      parasite::Program program;
      TRY(append_thread_state(program, context_, *actor.image, core_of(actor, puppet), inherited, actor.late));
      TRY(pipeline.start(puppet, std::move(program)));
    }
  }
  return pipeline.finish();
}

const pb::core_entry& Cast::core_of(const Actor& actor, const parasite::Puppet& puppet) const {
  const auto found = actor.image->thread_cores.find(static_cast<std::uint32_t>(puppet.ns_tid));
  return found == actor.image->thread_cores.end() ? actor.image->core : found->second;
}

Result<> Cast::resume() {
  for (const Actor& actor : actors_)
    if (actor.image->alive())
      for (const parasite::Puppet& puppet : actor.threads) TRY(parasite::ask_to_stop_serving(keeper_, puppet.tid));
  for (const Actor& actor : actors_)
    if (actor.image->alive())
      for (const parasite::Puppet& puppet : actor.threads) TRY(parasite::wait_until_stopped(keeper_, puppet.tid));
  TRY(leave_area());
  for (Actor& actor : actors_)
    if (actor.image->alive()) TRY(set_registers(actor));
  TRY(cgroups_->apply_freezer());
  // From dying with the engine to living without it: the init of a pid namespace last, as the others cannot
  // outlive it.
  for (std::size_t i = actors_.size(); i-- > 0;)
    if (actors_[i].image->alive())
      for (const parasite::Puppet& puppet : actors_[i].threads) (void)sys::ptrace::setoptions(puppet.tid, 0);
  // Nothing can fail any more but a task that is ended by somebody else.
  for (Actor& actor : actors_) {
    if (!actor.image->alive()) continue;
    constexpr std::uint32_t kTaskStopped = 3;
    const bool was_stopped = actor.image->core.tc().task_state() == kTaskStopped;
    if (was_stopped || context_.options.leave_stopped)
      stop(actor, was_stopped ? stop_signal_of(context_.image, *actor.image) : SIGSTOP);
    for (const parasite::Puppet& puppet : actor.threads) {
      keeper_.forget(puppet.tid);
      (void)sys::ptrace::detach(puppet.tid);
    }
  }
  return {};
}

// Signals that wait for the process would be delivered first, and might end it: all but the one that stops it are blocked
// until every thread has stopped. Let go in such a stop a thread stays there. Nobody has a chance to go on before: once the
// leader has taken the signal, the others find it done.
void Cast::stop(const Actor& actor, int signal) {
  const parasite::Deadline deadline = parasite::within(std::chrono::seconds(10));
  const parasite::Puppet& leader = actor.threads.front();
  const std::uint64_t others = ~(std::uint64_t{1} << (signal - 1));
  for (const parasite::Puppet& puppet : actor.threads) (void)sys::ptrace::setsigmask(puppet.tid, others);
  (void)sys::tgkill(leader.tid, leader.tid, signal);
  for (const parasite::Puppet& puppet : actor.threads) {
    keeper_.expect_stops(puppet.tid);
    int passed_on = 0;
    for (;;) {
      (void)sys::ptrace::cont(puppet.tid, passed_on);
      const Result<parasite::Stop> stop = keeper_.wait_stop(puppet.tid, deadline);
      if (!stop || (stop->event() == PTRACE_EVENT_STOP && stop->signal() == signal)) break;
      passed_on = stop->event() == 0 ? stop->signal() : 0;
    }
    const pb::core_entry& core = core_of(actor, puppet);
    (void)sys::ptrace::setsigmask(puppet.tid, core.has_tc() ? core.tc().blk_sigset() : core.thread_core().blk_sigset());
  }
}

// The interpreter's own system call takes the area away, itself included: when it ends the leader is stopped
// and goes on with other registers, as all its threads do. What they stood in goes with it.
Result<> Cast::leave_area() {
  const auto gadget = parasite::find_syscall(parasite::interpreter_image());
  if (!gadget) return fail(Error::unsupported("the interpreter has no system call"));
  std::vector<std::pair<const parasite::Puppet*, parasite::AttendedCall>> calls;
  const auto each = [&](auto step) -> Result<> {
    for (auto& [leader, call] : calls) TRY_OR(step(call), std::move(e).during("leaving the interpreter").owner(leader->name));
    return {};
  };
  for (const Actor& actor : actors_) {
    if (!actor.image->alive() || !(actor.family->owns & CLONE_VM)) continue;
    const parasite::Puppet& leader = actor.threads.front();
    calls.emplace_back(&leader, parasite::AttendedCall(leader.tid, TRY(sys::ptrace::getregs(leader.tid))));
  }
  TRY(each([&](parasite::AttendedCall& call) {
    const std::uint64_t args[] = {yard_->area().address(), yard_->area().size()};
    return call.begin(yard_->area().entry() + *gadget, yard_->area().stack_top(0), SYS_munmap, args);
  }));
  TRY(each([&](parasite::AttendedCall& call) { return call.pass_entry(keeper_); }));
  return each([&](parasite::AttendedCall& call) { return call.end(keeper_); });
}

Result<> Cast::set_registers(Actor& actor) {
  for (const parasite::Puppet& puppet : actor.threads) {
    Registers registers = TRY_OR(registers_of(core_of(actor, puppet)), std::move(e).owner(puppet.name));
    const auto own = actor.image->attributes.find(static_cast<std::uint32_t>(puppet.ns_tid));
    if (own != actor.image->attributes.end() && own->second.has_continuation() &&
        !parasite::continue_call(registers.general, core_of(actor, puppet).thread_info().gpregs().orig_ax(), own->second.continuation()))
      return fail(Error::corrupt("it is in no call that could go on so").object(format("thread {}", puppet.ns_tid)).owner("the image"));
    TRY_OR(sys::ptrace::setregset(puppet.tid, NT_X86_XSTATE, registers.xstate),
           std::move(e).during("setting extended registers").owner(puppet.name));
    TRY_OR(restore_segments(puppet.tid, core_of(actor, puppet).thread_info()), std::move(e).owner(puppet.name));
    TRY_OR(set_general_registers(puppet.tid, registers.general),
           std::move(e).during("setting registers").owner(puppet.name));
    TRY_OR(sys::ptrace::setsigmask(puppet.tid, registers.signal_mask), std::move(e).owner(puppet.name));
  }
  return {};
}

}  // namespace dormouse::engine
