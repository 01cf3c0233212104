#include "engine/task/task_dump.h"

#include <google/protobuf/arena.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <ranges>
#include <set>

#include "base/text.h"
#include "engine/task/attributes.h"
#include "engine/task/audit.h"
#include "engine/task/call_dispatch.h"
#include "engine/task/credentials.h"
#include "engine/task/expired_timers.h"
#include "engine/task/keyrings.h"
#include "engine/task/landlock.h"
#include "engine/task/limits.h"
#include "engine/task/own_objects.h"
#include "engine/task/registers.h"
#include "engine/task/restartable.h"
#include "engine/task/scheduling.h"
#include "engine/task/security_label.h"
#include "engine/task/settings.h"
#include "engine/task/signals.h"
#include "engine/task/timers.h"
#include "engine/task/waiting_timers.h"
#include "images/own_types.h"
#include "images/schema/attributes.pb.h"
#include "images/schema/task.pb.h"
#include "kernel/features.h"
#include "kernel/file.h"
#include "kernel/proc/stat.h"
#include "kernel/process.h"
#include "kernel/ptrace.h"
#include "kernel/scheduling.h"
#include "parasite/host/frame32.h"

namespace dormouse::engine {
namespace {

// task_core_entry.task_state
constexpr std::uint32_t kStateAlive = 1, kStateDead = 2, kStateStopped = 3;

// The id as the task's own user namespace has it. `map`: its uid_map as the engine reads it.
std::uint32_t id_inside(std::uint32_t id, std::span<const proc::IdRange> map) {
  for (const proc::IdRange& range : map)
    if (id - range.outside < range.count) return range.inside + (id - range.outside);
  return kNoLoginUid;
}

// A stopped task takes no notice of another SIGSTOP, and SIGCONT takes it away before the task could. The reference
// engine's restore would stop on it too early.
std::vector<siginfo_t> without_further_stops(const Task& task, std::vector<siginfo_t> queue) {
  if (task.state == TaskState::kStopped) std::erase_if(queue, [](const siginfo_t& info) { return info.si_signo == SIGSTOP; });
  return queue;
}

}  // namespace

struct TaskDump::State {
  // What a thread is asked in the interpreter. Threads are asked the same by one program, but for those that differ in
  // the number of their groups.
  struct Questions {
    parasite::Program program;
    CredentialsAsked credentials;
    ThreadSettingsAsked settings;
    AttributesAsked attributes;
    KeyringsAsked keyrings;
    std::optional<parasite::DataRef> robust_list;  // where it can only be asked for
  };
  struct PerThread {
    explicit PerThread(google::protobuf::Arena& arena)
        : core(*google::protobuf::Arena::CreateMessage<pb::core_entry>(&arena)),
          attributes(*google::protobuf::Arena::CreateMessage<pb::thread_attributes_entry>(&arena)) {}
    pb::core_entry& core;
    pb::thread_attributes_entry& attributes;
    pid_t tid = 0, ns_tid = 0;
    proc::Status status;
    std::string label;
    const Questions* questions = nullptr;
    bool shares_directories = true;  // with its process
  };

  DumpContext& context;
  const Task& task;
  parasite::HeldProcess& held;
  SeccompTable& filters;
  google::protobuf::Arena records{};  // dozens of small ones for each of thousands of threads
  std::vector<PerThread> threads{};
  Questions leaders_questions{};
  std::map<std::size_t, Questions> questions{};  // of the other threads, by the number of their groups
  std::vector<SeccompState> seccomp{};
  // Of the leader's program.
  SignalActionsAsked actions{};
  std::vector<proc::PosixTimer> posix_timers{};
  TimersAsked timers{};
  std::uint64_t waiting_then = 0;  // signals, when they were asked
  ProcessSettingsAsked settings{};
  int dumpable = 1;
  bool thp_disabled = false, own_segments = false;
  std::atomic<bool> labelled{true};

  Result<std::string> read(const std::string& file) const { return sys::read_file(task.proc.get(), file); }
  template <class Parse>
  auto read(const std::string& file, Parse parse) const -> decltype(parse(std::string_view())) {
    const std::string text = TRY(read(file));
    return parse(text);
  }
  Questions questions_for(const PerThread& thread) const;
  Result<> read_process();
  Result<> save_process_queue(const std::vector<siginfo_t>& queue);
  Result<> save_thread_queue(const std::vector<siginfo_t>& queue, PerThread& to);
  SignalQueues queues();
  Result<> read_queues_again();
  Result<std::vector<siginfo_t>> to_be_delivered(std::vector<siginfo_t> queue, std::uint64_t pending) const;
  Result<> read_audit(pb::task_core_entry& to);
  Result<> write_ended_leader();
  Result<> read_thread(parasite::HeldThread& thread, const proc::ProcDir& dir, PerThread& to);
  Result<> read_traced(parasite::HeldThread& thread, PerThread& to);
  Result<> read_restartable(parasite::HeldThread& thread, pb::core_entry& to);
};

// It has no state any more that could be saved, and the format no way to say so: the image has a thread that is about
// to end, with nothing of its own and every signal blocked. What the process has in common is with it.
Result<> TaskDump::State::write_ended_leader() {
  if (held.syscall_instruction() == 0)
    return fail(Error::unsupported("its main thread has ended, and there is no code by which another one could end")
                    .owner(task.name()).remedy("end the process's other threads"));
  PerThread& agent = threads.front();
  pb::core_entry core = agent.core;
  pb::thread_core_entry& thread = *core.mutable_thread_core();
  thread.clear_signals_p();
  thread.clear_sas();
  thread.clear_rseq_entry();
  thread.clear_seccomp_mode();
  thread.clear_seccomp_filter();
  thread.clear_pdeath_sig();
  thread.clear_blk_sigset();
  thread.set_futex_rla(0);
  thread.set_futex_rla_len(0);
  thread.set_comm(task.comm);
  core.mutable_tc()->set_comm(task.comm);
  agent.core.mutable_thread_core()->set_blk_sigset(core.tc().blk_sigset());
  agent.core.clear_tc();
  core.mutable_tc()->set_blk_sigset(~std::uint64_t{0});
  core.mutable_thread_info()->set_clear_tid_addr(0);
  pb::user_x86_regs_entry& registers = *core.mutable_thread_info()->mutable_gpregs();
  const auto code = static_cast<std::uint64_t>(WEXITSTATUS(task.leader_exit_code));
  registers.set_ip(held.syscall_instruction());
  registers.set_orig_ax(~std::uint64_t{0});
  if (held.runs_32_bit_code()) {
    registers.set_ax(parasite::kExit32);
    registers.set_bx(code);
  } else {
    registers.set_ax(SYS_exit);
    registers.set_di(code);
  }
  return context.out.write(images::kCore, static_cast<std::uint64_t>(task.ns_pid), core);
}

Result<> TaskDump::State::read_audit(pb::task_core_entry& to) {
  const Result<std::string> text = read("loginuid");
  if (!text) return {};  // a kernel without audit
  const auto id = parse_number<std::uint32_t>(trim(*text)).value_or(kNoLoginUid);
  if (id == kNoLoginUid) {
    to.set_loginuid(id);
    return {};
  }
  const std::vector<proc::IdRange> map = TRY(read("uid_map", proc::parse_id_map));
  to.set_loginuid(id_inside(id, map));
  return {};
}

Result<> TaskDump::State::read_process() {
  pb::task_core_entry& core = *threads.front().core.mutable_tc();
  const proc::Stat stat = TRY(read("stat", proc::parse_stat));
  core.set_task_state(task.state == TaskState::kStopped ? kStateStopped : kStateAlive);
  core.set_exit_code(0);
  core.set_flags(stat.flags);
  core.set_comm(stat.comm);
  const std::string personality = TRY(read("personality"));
  core.set_personality(parse_number<std::uint32_t>(trim(personality), 16).value_or(0));
  core.set_blk_sigset(held.leader().context().signal_mask);
  if (task.state == TaskState::kStopped) {
    const int signal = held.leader().stop_signal();
    core.set_stop_signo(static_cast<std::uint32_t>(signal != 0 ? signal : SIGSTOP));
  }
  const Limits limits = TRY(read("limits", proc::parse_limits));
  save_limits(limits, *core.mutable_rlimits());
  TRY(read_audit(core));
  const std::string adjustment = TRY(read("oom_score_adj"));
  core.set_oom_score_adj(parse_number<std::int32_t>(trim(adjustment)).value_or(0));
  const auto auxv = proc::parse_auxv(TRY(read("auxv")));
  if (!auxv.empty() && proc::is_auxv_of_32_bit_code(auxv) != held.runs_32_bit_code())
    return fail(Error::unsupported(held.runs_32_bit_code() ? "a program of 64-bit code is running 32-bit code"
                                                           : "a program of 32-bit code is running 64-bit code")
                    .object("program")
                    .remedy("try again when it runs its own kind of code"));
  posix_timers = TRY(read("timers", proc::parse_timers));
  return read_process_attributes(task, threads.front().attributes);
}

// `pending`: as /proc/PID/status tells it.
Result<std::vector<siginfo_t>> TaskDump::State::to_be_delivered(std::vector<siginfo_t> queue, std::uint64_t pending) const {
  queue = with_unqueued(without_further_stops(task, std::move(queue)), pending);
  std::vector<siginfo_t> living = without_deleted_timers(queue, posix_timers);
  if (living.size() == queue.size()) return queue;
  const auto features = TRY(sys::Features::make(context.options.without));
  // Asked instead: it came later (6.15), and shows in no other way.
  return features.has(sys::Feature::kTimerRestoreIds) ? living : queue;
}

Result<> TaskDump::State::save_process_queue(const std::vector<siginfo_t>& queue) {
  const auto living = TRY(to_be_delivered(queue, threads.front().status.shared_pending));
  pb::signal_queue_entry& to = *threads.front().core.mutable_tc()->mutable_signals_s();
  to.Clear();
  save_queue(living, to);
  return {};
}

Result<> TaskDump::State::save_thread_queue(const std::vector<siginfo_t>& queue, PerThread& to) {
  const auto living = TRY(to_be_delivered(queue, to.status.pending));
  pb::signal_queue_entry& entry = *to.core.mutable_thread_core()->mutable_signals_p();
  entry.Clear();
  save_queue(living, entry);
  return {};
}

SignalQueues TaskDump::State::queues() {
  SignalQueues all{threads.front().core.mutable_tc()->mutable_signals_s()};
  for (PerThread& thread : threads) all.push_back(thread.core.mutable_thread_core()->mutable_signals_p());
  return all;
}

// Of the process, and of those threads that get signals of timers.
Result<> TaskDump::State::read_queues_again() {
  std::set<pid_t> notified;
  for (const proc::PosixTimer& timer : posix_timers)
    if (timer.notify == SIGEV_THREAD_ID) notified.insert(timer.notified);
  for (std::size_t i = 0; i < threads.size(); ++i) {
    if (i != 0 && !notified.contains(threads[i].tid)) continue;
    const auto waiting = TRY(held.waiting_signals(*held.threads()[i]));
    TRY(save_thread_queue(waiting.own, threads[i]));
    if (i == 0) TRY(save_process_queue(waiting.shared));
  }
  return {};
}

Result<> TaskDump::State::read_restartable(parasite::HeldThread& thread, pb::core_entry& to) {
  const Result<abi::RseqConfiguration> configuration = sys::ptrace::get_rseq_configuration(thread.tid());
  // EIO: the kernel has no such request (before 5.13) or no rseq at all.
  if (!configuration && configuration.error().is_kernel(EIO)) return {};
  const abi::RseqConfiguration found = TRY(configuration);
  save_restartable(found, *to.mutable_thread_core()->mutable_rseq_entry());
  const auto handler = TRY(abort_address(thread.tid(), found, thread.context().regs.rip));
  if (!handler) return {};
  // The registers that were saved are those of a thread that goes on where it was.
  thread.abort_sequence(*handler);
  to.mutable_thread_info()->Clear();
  return save_registers(XstateLayout::of_this_cpu(), thread.context(), *to.mutable_thread_info());
}

Result<> TaskDump::State::read_thread(parasite::HeldThread& thread, const proc::ProcDir& dir, PerThread& to) {
  const pid_t tid = thread.tid();
  const auto known = std::ranges::find(task.threads, tid, &Thread::tid);
  if (known == task.threads.end()) return fail(Error::unsupported("a thread that was not there before"));
  to.tid = tid;
  to.ns_tid = known->ns_tid;
  to.core.set_mtype(pb::core_entry::X86_64);
  pb::thread_core_entry& core = *to.core.mutable_thread_core();

  to.status = TRY(dir.status());
  core.set_comm(to.status.name);
  if (labelled) {
    const Result<std::string> label = dir.read("attr/current");
    labelled = label.has_value();  // EINVAL: no security module, also for the other threads
    if (label) to.label = label_of(*label);
  }
  TRY(save_registers(XstateLayout::of_this_cpu(), thread.context(), *to.core.mutable_thread_info()));
  if (const auto word = parasite::continuation(thread.context().regs)) to.attributes.set_continuation(*word);
  const abi::SchedAttr scheduling = TRY(sys::sched_getattr(tid));
  save_scheduling(scheduling, TRY(sys::nice_of(tid)), core);
  if (!held.runs_32_bit_code()) {
    const sys::RobustList robust = TRY(sys::get_robust_list(tid));
    core.set_futex_rla(robust.head);
    core.set_futex_rla_len(static_cast<std::uint32_t>(robust.length));
  }
  // The leader's is with what the process has in common.
  if (tid != task.agent()) {
    core.set_blk_sigset(thread.context().signal_mask);
    to.shares_directories = !TRY(has_own_directories(context, task, *known, dir, to.status));
  }
  to.attributes.set_tid(static_cast<std::uint32_t>(to.ns_tid));
  return read_thread_attributes(dir, to.attributes);
}

Result<> TaskDump::State::read_traced(parasite::HeldThread& thread, PerThread& to) {
  TRY(save_thread_queue(TRY(sys::ptrace::peeksiginfo(to.tid, false)), to));
  TRY_OR(refuse_call_dispatch(to.tid), std::move(e).object(format("system calls of thread {}", to.ns_tid)));
  TRY(read_restartable(thread, to.core));
  seccomp.push_back(TRY(read_seccomp(to.tid, to.status.seccomp)));
  if (to.status.seccomp != 0) held.set_confined();
  if (to.status.seccomp == pb::strict) thread.set_strict();
  return save_segments(to.tid, *to.core.mutable_thread_info());
}

TaskDump::TaskDump(DumpContext& context, const Task& task, parasite::HeldProcess& held, SeccompTable& filters)
    : state_(new State{context, task, held, filters}) {
  state_->threads.reserve(held.threads().size());
  for (std::size_t i = 0; i < held.threads().size(); ++i) state_->threads.emplace_back(state_->records);
}
TaskDump::TaskDump(TaskDump&&) noexcept = default;
TaskDump::~TaskDump() = default;

std::size_t TaskDump::thread_count() const { return state_->threads.size(); }

Result<> TaskDump::read_files(std::size_t index, const proc::ProcDir& dir) {
  parasite::HeldThread& thread = *state_->held.threads()[index];
  TRY_OR(state_->read_thread(thread, dir, state_->threads[index]),
         std::move(e).object(format("thread {}", thread.tid())).owner(state_->task.name()));
  if (index == 0) TRY_OR(state_->read_process(), std::move(e).owner(state_->task.name()));
  return {};
}

Result<> TaskDump::read_traced() {
  for (std::size_t i = 0; i < state_->threads.size(); ++i)
    TRY_OR(state_->read_traced(*state_->held.threads()[i], state_->threads[i]),
           std::move(e).object(format("thread {}", state_->threads[i].tid)).owner(state_->task.name()));
  const auto of_process = TRY_OR(sys::ptrace::peeksiginfo(state_->held.leader().tid(), true), std::move(e).owner(state_->task.name()));
  TRY_OR(state_->save_process_queue(of_process), std::move(e).owner(state_->task.name()));
  return {};
}

// One thing has no small limit: a thread may be in 65536 groups.
std::size_t TaskDump::program_bytes() const {
  std::size_t bytes = parasite::Area::kDefaultProgramBytes;
  for (const State::PerThread& thread : state_->threads) bytes += thread.status.groups.size() * sizeof(std::uint32_t);
  return bytes;
}

TaskDump::State::Questions TaskDump::State::questions_for(const PerThread& thread) const {
  Questions asked;
  asked.credentials = ask_credentials(asked.program, thread.status.groups.size());
  asked.settings = ask_thread_settings(asked.program);
  asked.attributes = ask_attributes(asked.program, thread.tid == task.pid);
  asked.keyrings = ask_keyrings(asked.program, thread.tid == task.pid);
  if (held.runs_32_bit_code()) asked.robust_list = ask_robust_list32(asked.program);
  return asked;
}

void TaskDump::ask() {
  state_->leaders_questions = state_->questions_for(state_->threads.front());
  state_->threads.front().questions = &state_->leaders_questions;
  for (State::PerThread& thread : state_->threads | std::views::drop(1)) {
    const auto [known, first] = state_->questions.try_emplace(thread.status.groups.size());
    if (first) known->second = state_->questions_for(thread);
    thread.questions = &known->second;
  }
  parasite::Program& leaders = state_->leaders_questions.program;
  state_->actions = ask_signal_actions(leaders);
  state_->timers = ask_timers(leaders, state_->posix_timers);
  state_->settings = ask_process_settings(leaders);
}

const parasite::Program& TaskDump::program(std::size_t thread) const { return state_->threads[thread].questions->program; }

void TaskDump::drop_programs() {
  for (State::PerThread& thread : state_->threads) thread.questions = nullptr;
  state_->leaders_questions = {};
  state_->questions.clear();
}

Result<> TaskDump::take(std::size_t index, const parasite::Placed& placed) {
  State::PerThread& thread = state_->threads[index];
  const State::Questions& asked = *thread.questions;
  pb::thread_core_entry& core = *thread.core.mutable_thread_core();
  save_credentials(placed, asked.credentials, thread.status, thread.label, *core.mutable_creds());
  save_thread_settings(placed, asked.settings, thread.core);
  save_attributes(placed, asked.attributes, thread.attributes);
  save_alternate_stack(state_->held.threads()[index]->alternate_stack(), *core.mutable_sas());
  if (Result<> keys = refuse_keys(placed, asked.keyrings); !keys)
    state_->context.blockers.add(std::move(keys).error().owner(format("thread {} of {}", thread.ns_tid, state_->task.name())));
  if (asked.robust_list) save_robust_list32(placed, *asked.robust_list, core);
  if (index != 0) return {};
  pb::task_core_entry& process = *thread.core.mutable_tc();
  save_signal_actions(placed, state_->actions, state_->held.runs_32_bit_code(), process);
  TRY_OR(save_timers(placed, state_->timers, state_->task, *process.mutable_timers()),
         std::move(e).owner(state_->task.name()));
  state_->waiting_then = placed.value<std::uint64_t>(state_->timers.pending);
  save_process_settings(placed, state_->settings, process);
  state_->own_segments = has_own_segments(placed, state_->settings);
  state_->dumpable = static_cast<int>(placed.result(state_->settings.dumpable));
  state_->thp_disabled = placed.result(state_->settings.thp_disabled) != 0;
  return {};
}

Result<> TaskDump::mark_expired_timers(parasite::Keeper& keeper) {
  pb::task_timers_entry& timers = *state_->threads.front().core.mutable_tc()->mutable_timers();
  const TimerSignals before = timer_signals(state_->queues(), timers);
  const auto seen = [&](int signal) { return before.intervals.contains(signal); };
  const bool alarmed = std::ranges::any_of(kIntervalSignals, [&](int signal) {
    return (state_->waiting_then >> (signal - 1) & 1) != 0 && !seen(signal);
  });
  if (timers.posix_size() == 0 && !alarmed) return {};
  const auto told = [&](Error error) { return std::move(error).owner(state_->task.name()); };
  TRY_OR(state_->read_queues_again(), told(std::move(e)));
  const auto again = mark_expired(before, timer_signals(state_->queues(), timers), timers);
  TRY_OR(ask_again(keeper, state_->held, again), told(std::move(e)));
  return {};
}

Result<> TaskDump::count_overruns(parasite::Keeper& keeper) {
  pb::task_core_entry& process = *state_->threads.front().core.mutable_tc();
  if (process.timers().posix_size() == 0) return {};
  TRY_OR(engine::count_overruns(keeper, state_->held, state_->queues(), *process.mutable_timers()),
         std::move(e).owner(state_->task.name()));
  return {};
}

Result<> TaskDump::refuse_restrictions(parasite::Keeper& keeper) {
  if (state_->own_segments)
    return fail(Error::unsupported("they are its own (modify_ldt)").object("segments").owner(state_->task.name())
                    .remedy("the image format has no place for them"));
  if (!landlock_here() || !state_->held.can_be_helped()) return {};
  std::vector<const proc::Status*> all;
  for (const State::PerThread& thread : state_->threads) all.push_back(&thread.status);
  for (const std::size_t index : threads_to_ask_for_landlock(all)) {
    state_->held.area().rewind();
    const Result<> free = refuse_landlock(keeper, state_->held, state_->task, index);
    const bool given_up = !free && free.error().kind() == Error::Kind::kUnsupported && state_->context.options.drop_landlock;
    if (given_up) state_->context.log.warn("{} (given up: --drop-landlock)", free.error().message());
    else TRY(free);
  }
  state_->held.area().rewind();
  return {};
}

std::vector<std::size_t> TaskDump::threads_with_own_directories() const {
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < state_->threads.size(); ++i)
    if (!state_->threads[i].shares_directories) found.push_back(i);
  return found;
}

void TaskDump::set_directories(std::size_t index, std::uint32_t cwd_id, std::uint32_t root_id) {
  State::PerThread& thread = state_->threads[index];
  pb::own_directories_entry& directories = *thread.attributes.mutable_directories();
  directories.set_cwd_id(cwd_id);
  directories.set_root_id(root_id);
  directories.set_umask(thread.status.umask);
}

void TaskDump::set_cgroup_set(std::size_t thread, std::uint32_t id) {
  state_->threads[thread].core.mutable_thread_core()->set_cg_set(id);
}

std::vector<std::uint64_t> TaskDump::restartable_areas() const {
  std::vector<std::uint64_t> areas;
  for (const State::PerThread& thread : state_->threads)
    if (thread.core.thread_core().has_rseq_entry()) areas.push_back(thread.core.thread_core().rseq_entry().rseq_abi_pointer());
  return areas;
}

int TaskDump::dumpable() const { return state_->dumpable; }
bool TaskDump::thp_disabled() const { return state_->thp_disabled; }

Result<> TaskDump::begin_write() {
  std::vector<pb::thread_core_entry*> cores;
  for (State::PerThread& thread : state_->threads) cores.push_back(thread.core.mutable_thread_core());
  state_->filters.save(state_->seccomp, cores);
  return state_->task.leader_ended ? state_->write_ended_leader() : Result<>{};
}

Result<> TaskDump::write_thread(std::size_t index) {
  const State::PerThread& thread = state_->threads[index];
  return state_->context.out.write(images::kCore, static_cast<std::uint64_t>(thread.ns_tid), thread.core);
}

Result<> TaskDump::write_process() {
  auto attributes = TRY(state_->context.out.create(images::kDormouseTask, static_cast<std::uint64_t>(state_->task.ns_pid)));
  for (const State::PerThread& thread : state_->threads) TRY(attributes.append(thread.attributes));
  return attributes.finish();
}

Result<> write_zombie_core(DumpContext& context, const Task& task) {
  pb::core_entry core;
  core.set_mtype(pb::core_entry::X86_64);
  pb::task_core_entry& process = *core.mutable_tc();
  process.set_task_state(kStateDead);
  process.set_exit_code(static_cast<std::uint32_t>(task.exit_code));
  process.set_personality(0);
  process.set_flags(0);
  process.set_blk_sigset(0);
  process.set_comm(task.comm);
  // Only a process that really writes one gets the mark.
  if (WCOREDUMP(task.exit_code))
    context.log.warn("{} has ended and left a core file: its parent will not be told of the core file after a restore", task.name());
  return context.out.write(images::kCore, static_cast<std::uint64_t>(task.ns_pid), core);
}

}  // namespace dormouse::engine
