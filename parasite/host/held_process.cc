#include "parasite/host/held_process.h"

#include <sys/ptrace.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>

#include "base/format.h"
#include "base/parallel.h"
#include "base/parallel.h"
#include "kernel/proc/directory.h"
#include "kernel/process.h"
#include "kernel/ptrace.h"
#include "parasite/host/attended.h"
#include "parasite/host/frame32.h"

namespace dormouse::parasite {
namespace {

constexpr unsigned long kOptions = PTRACE_O_TRACESYSGOOD;
constexpr unsigned long kSuspendSeccomp = PTRACE_O_SUSPEND_SECCOMP;
constexpr std::size_t kManyThreads = 64;
constexpr std::uint64_t kAllSignals = ~std::uint64_t{0};

bool is_gone(const Error& error) {
  return error.kind() == Error::Kind::kTaskDied || error.is_kernel(ESRCH);
}

bool has_ended(pid_t tid) {
  const auto dir = proc::ProcDir::open(tid);
  const auto status = dir ? dir->status() : Result<proc::Status>(fail(dir.error()));
  return status ? status->state == 'Z' || status->state == 'X' : is_gone(status.error());
}

// What capturing a thread's context does as well.
void go_on_waiting(pid_t tid) {
  auto regs = sys::ptrace::getregs(tid);
  if (regs && continue_endless_wait(*regs)) (void)sys::ptrace::setregs(tid, *regs);
}

}  // namespace

HeldProcess::HeldProcess(Keeper& keeper, Log& log, pid_t pid, std::string name)
    : keeper_(keeper), log_(log), pid_(pid), name_(std::move(name)) {}

HeldProcess::~HeldProcess() {
  if (Result<> released = release(); !released)
    log_.debug("releasing {}: {}", name_, released.error().message());
}

bool HeldProcess::holds(pid_t tid) const {
  return held_.contains(tid);
}

bool HeldProcess::stopped() const {
  return std::ranges::all_of(threads_, [](const auto& thread) { return thread->stopped_; });
}

Result<bool> HeldProcess::seize(pid_t tid) {
  // The engine's own calls in the task must not meet the task's filters; without CAP_SYS_ADMIN they do.
  Result<> seized = sys::ptrace::seize(tid, kOptions | kSuspendSeccomp);
  if (!seized && seized.error().is_kernel(EPERM)) seized = sys::ptrace::seize(tid, kOptions);
  if (!seized) {
    // EPERM is also what a task gets that has ended and was not collected (ptrace_attach: exit_state).
    if (is_gone(seized.error()) || has_ended(tid)) return false;
    return fail(std::move(seized).error().object(format("thread {}", tid)).owner(name_).remedy(
        "is another tracer (a debugger, strace) attached, or the privilege to trace missing?"));
  }
  keeper_.forget(tid);
  keeper_.expect_stops(tid);
  auto thread = std::make_unique<HeldThread>();
  thread->tid_ = tid;
  held_.insert(tid);
  threads_.push_back(std::move(thread));
  if (const Result<> asked = sys::ptrace::interrupt(tid); !asked && !is_gone(asked.error()))
    return fail(asked.error());
  return true;
}

Result<> HeldProcess::wait_stopped(Deadline deadline) {
  for (std::size_t i = 0; i < threads_.size();) {
    HeldThread& thread = *threads_[i];
    if (thread.stopped_) {
      ++i;
      continue;
    }
    Result<Stop> stop = keeper_.wait_stop(thread.tid_, deadline);
    // A signal was on its way to the thread before it could stop: let it be delivered; the stop that was
    // asked for follows before the thread's next instruction.
    while (stop && stop->event() == 0) {
      TRY(sys::ptrace::cont(thread.tid_, stop->signal()));
      stop = keeper_.wait_stop(thread.tid_, deadline);
    }
    // Of a main thread that ends before the others its tracer hears only when those have ended too.
    const bool is_over = !stop && (is_gone(stop.error()) ? thread.tid_ != pid_ : threads_.size() > 1 && has_ended(thread.tid_));
    if (is_over) {
      keeper_.forget(thread.tid_);
      held_.erase(thread.tid_);
      threads_.erase(threads_.begin() + static_cast<std::ptrdiff_t>(i));
      continue;
    }
    if (!stop)
      return fail(std::move(stop).error().object(format("thread {}", thread.tid_)).owner(name_).remedy(
          "it may be in uninterruptible sleep: try again, or raise --timeout"));
    if (stop->signal() != SIGTRAP) thread.stop_signal_ = stop->signal();
    thread.stopped_ = true;
    ++i;
  }
  return {};
}

Result<> HeldProcess::run_to_exec(Deadline deadline) {
  HeldThread& thread = leader();
  TRY(sys::ptrace::setoptions(thread.tid_, kOptions | PTRACE_O_TRACEEXEC));
  thread.stopped_ = false;
  TRY(sys::ptrace::cont(thread.tid_));
  for (;;) {
    const Stop stop = TRY(keeper_.wait_stop(thread.tid_, deadline));
    if (stop.event() == PTRACE_EVENT_EXEC) break;
    TRY(sys::ptrace::cont(thread.tid_, stop.event() == 0 ? stop.signal() : 0));
  }
  // That stop is inside of execve(), which has yet to store its result: one more, at the new program's door.
  if (!sys::ptrace::setoptions(thread.tid_, kOptions | kSuspendSeccomp))
    TRY(sys::ptrace::setoptions(thread.tid_, kOptions));
  TRY(sys::ptrace::interrupt(thread.tid_));
  TRY(sys::ptrace::cont(thread.tid_));
  return wait_stopped(deadline);
}

Result<> HeldProcess::capture_contexts() {
  for (auto& thread : threads_) {
    thread->context_ = TRY_OR(capture(thread->tid_), std::move(e).owner(name_));
    thread->captured_ = true;
    const std::uint64_t code = thread->context_.regs.cs;
    const auto refuse = [&](const char* what) {
      return fail(Error::unsupported(what).object(format("thread {}", thread->tid_)).owner(name_)
                      .remedy("try again when all its threads run the program's own kind of code"));
    };
    if (code != kCode64 && code != kCode32) return refuse("it runs in a code segment of its own (LDT)");
    if (code != leader().context_.regs.cs) return refuse("the process has threads with 32-bit and with 64-bit code");
  }
  is_32_ = !threads_.empty() && parasite::runs_32_bit_code(leader().context_.regs);
  return {};
}

// On its way home, by a call that says so: with which its cell is not `inside` any more.
user_regs_struct HeldProcess::registers_to_go_home(const HeldThread& thread) const {
  const std::uint64_t inside = area_->cell_address(thread.slot_) + offsetof(blob::Cell, inside);
  constexpr auto kMakeItZero = static_cast<std::uint32_t>(FUTEX_OP(FUTEX_OP_SET, 0, FUTEX_OP_CMP_EQ, 0));
  const std::uint64_t args[] = {inside, FUTEX_WAKE_OP, 1, 0, inside, kMakeItZero};
  return registers_to_call(thread.context_.regs, gadgets_.syscall, thread.frame_.address, is_32_ ? kFutex32 : SYS_futex, args);
}

// The engine may die between any two of these steps, and then the first thread takes the area away: it waits for those that are
// `inside`. Nobody can tell whether a thread has its new registers already. So it is first sent where it came from, by a way on
// which it says that it is gone, needed or not: that can be waited for from then on, as what it does in the interpreter. The first
// thread has nobody but itself to wait for.
Result<> HeldProcess::send_in(const HeldThread& thread, const user_regs_struct& regs) {
  // A thread that is let go must not keep a mask that nobody takes off: it has a frame to return on by then.
  const auto block = [&] { return sys::ptrace::setsigmask(thread.tid_, kAllSignals); };
  if (thread.slot_ == 0 || !can_tidy()) {
    TRY(sys::ptrace::setregs(thread.tid_, regs));
    return block();
  }
  TRY(sys::ptrace::setregs(thread.tid_, registers_to_go_home(thread)));
  TRY(block());
  std::uint32_t& inside = area_->cell(thread.slot_).inside;
  __atomic_store_n(&inside, 1, __ATOMIC_RELEASE);
  Result<> sent = sys::ptrace::setregs(thread.tid_, regs);
  if (!sent) __atomic_store_n(&inside, 0, __ATOMIC_RELEASE);
  return sent;
}

Result<> HeldProcess::start_serving(HeldThread& thread, const Program& first) {
  blob::Cell& cell = area_->cell(thread.slot_);
  cell = {};
  cell.frame = home_of(thread);
  cell.leave_by = !is_32_          ? blob::Leave::kSignalReturn
                  : thread.strict_ ? blob::Leave::kOldSignalReturn32
                                   : blob::Leave::kSignalReturn32;
  cell.area = area_->address();
  cell.stack_top = area_->stack_top(thread.slot_);
  cell.leaves_last = thread.slot_ == 0;
  TRY(keeper_.enlist(cell));
  arrival_.jobs.emplace_back(*area_, thread.slot_, thread.tid_, name_, TRY(area_->place(first))).start_on_arrival();

  TRY(send_in(thread, registers_to_serve(thread.context_.regs, *area_, thread.slot_)));
  thread.inside_ = true;
  keeper_.ignore_stops(thread.tid_);
  return sys::ptrace::cont(thread.tid_);
}

// Of one thread for all: the actions that a fault in the interpreter would make the kernel forget.
void HeldProcess::ask_on_arrival(std::span<const Program* const> first) {
  const auto questions = [](const Program* begun) {
    Arrival::Questions asked;
    if (begun != nullptr) asked.program = *begun;
    asked.stack = asked.program.zeros(sizeof(stack_t));
    asked.program.call("ask for the alternate stack", SYS_sigaltstack, {0, asked.stack});
    return asked;
  };
  arrival_.leaders = questions(first.empty() ? nullptr : first[0]);
  Program& leaders = arrival_.leaders.program;
  arrival_.actions = leaders.zeros(sizeof *fault_actions_);
  for (std::uint32_t i = 0; i < kFaultSignals.size(); ++i)
    leaders.call("ask for a signal action", SYS_rt_sigaction,
                 {kFaultSignals[i], 0, arrival_.actions + i * std::uint32_t{sizeof(SignalAction)}, kMaskBytes});
  for (std::size_t i = 1; i < threads_.size(); ++i) {
    const Program* const begun = first.empty() ? nullptr : first[i];
    if (!arrival_.others.contains(begun)) arrival_.others.emplace(begun, questions(begun));
  }
  arrival_.jobs.reserve(threads_.size());
}

Result<> HeldProcess::take_stacks_and_actions(std::span<const Program* const> first) {
  const Deadline deadline = within(std::chrono::seconds(60));
  Result<> outcome;
  for (const Job& job : arrival_.jobs)
    if (Result<> ended = job.wait(keeper_, deadline); !ended && outcome) outcome = std::move(ended);
  TRY(std::move(outcome));
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    const Program* const begun = first.empty() ? nullptr : first[i];
    const DataRef stack = i == 0 ? arrival_.leaders.stack : arrival_.others.at(begun).stack;
    threads_[i]->alternate_stack_ = arrival_.jobs[i].placed().value<stack_t>(stack);
  }
  learn_actions();
  if (first.empty()) drop_first();
  return {};
}

void HeldProcess::drop_first() {
  arrival_ = {};
  area_->rewind();
}

Result<> HeldProcess::mend_actions() {
  // Nobody knows what they were if already the first program has failed: then those of other signals are not to be changed.
  if (!keeper_.any_faulted() || !fault_actions_ || !area_ || !leader().inside_) return {};
  area_->rewind();
  Program program;
  for (std::size_t i = 0; i < kFaultSignals.size(); ++i) {
    const SignalAction& action = (*fault_actions_)[i];
    if (is_32_)
      program.call32("mend a signal action", kSigaction32,
                     {kFaultSignals[i], program.value(SignalAction32(action)), 0, kMaskBytes});
    else
      program.call("mend a signal action", SYS_rt_sigaction, {kFaultSignals[i], program.value(action), 0, kMaskBytes});
  }
  Batch batch(keeper_);
  TRY(batch.add(*this, leader(), program));
  return batch.run();
}

Result<> HeldProcess::begin_entering(GadgetFinder& finder, const Entry& entry) {
  gadgets_ = TRY(finder.find(leader().tid(), entry.proc_dir, entry.maps, is_32_));
  if (!gadgets_.complete())
    log_.debug("{}: no way home without the engine while its area is being mapped", name_);
  for (std::uint32_t i = 0; i < threads_.size(); ++i) threads_[i]->slot_ = i;
  // Their memory is anybody's who may trace them, unlike their registers.
  TRY_OR(in_parallel(threads_.size(), [&](std::size_t i) { return lay_frame(*threads_[i], threads_[i]->context_.regs.rsp, false); }),
         std::move(e).during("laying a signal frame"));
  // They are asked as they come in: to wake them for it would take as long again.
  ask_on_arrival(entry.first);
  return begin_mapping(entry.maps, entry.program_bytes);
}

// A thread whose system calls are handed back to it cannot be told from others before Linux 6.4: its first one in the
// interpreter is a fault, at which the kernel forgets the action. Then it must be known by then.
Result<> HeldProcess::learn_actions_early() {
  if (threads_.size() == 1 || sys::ptrace::get_call_dispatch(threads_[1]->tid_)) return {};
  TRY(arrival_.jobs[0].wait(keeper_, within(std::chrono::seconds(60))));
  learn_actions();
  return {};
}

void HeldProcess::learn_actions() {
  fault_actions_ = arrival_.jobs[0].placed().value<std::decay_t<decltype(*fault_actions_)>>(arrival_.actions);
}

Result<> HeldProcess::serve(const Entry& entry) {
  TRY(finish_mapping(entry.proc_dir));
  TRY(learn_actions_early());
  for (std::size_t i = 1; i < threads_.size(); ++i)
    TRY(start_serving(*threads_[i], arrival_.others.at(entry.first.empty() ? nullptr : entry.first[i]).program));
  return {};
}

Result<> HeldProcess::enter_together(Keeper& keeper, GadgetFinder& finder, std::span<const Entry> entries) {
  const auto each = [&](auto&& step) -> Result<> {
    for (const Entry& entry : entries) TRY_OR(step(entry), std::move(e).owner(entry.process->name_));
    return {};
  };
  TRY(each([&](const Entry& entry) { return entry.process->begin_entering(finder, entry); }));
  TRY(each([&](const Entry& entry) { return entry.process->mapping_->call.pass_entry(keeper); }));
  TRY(each([&](const Entry& entry) { return entry.process->serve(entry); }));
  return each([&](const Entry& entry) -> Result<> {
    TRY(entry.process->take_stacks_and_actions(entry.first));
    for (auto& thread : entry.process->threads_) TRY(entry.process->move_frame(*thread));
    return {};
  });
}

Result<> HeldProcess::enter(GadgetFinder& finder, int proc_dir, std::span<const proc::Vma> maps,
                            std::size_t program_bytes, std::vector<const Program*> first) {
  const Entry entry{this, proc_dir, maps, program_bytes, std::move(first)};
  return enter_together(keeper_, finder, {&entry, 1});
}

Result<Placed> HeldProcess::set_farewell(const Program& program) {
  area_->rewind();
  const Placed placed = TRY(area_->place(program));
  area_->keep();
  area_->header().farewell = placed.address();
  return placed;
}

Result<HeldProcess::WaitingSignals> HeldProcess::waiting_signals(const HeldThread& thread) {
  TRY(stop_serving(keeper_, thread.tid_));
  WaitingSignals waiting{.own = TRY(sys::ptrace::peeksiginfo(thread.tid_, false)), .shared = TRY(sys::ptrace::peeksiginfo(thread.tid_, true))};
  keeper_.ignore_stops(thread.tid_);
  TRY(sys::ptrace::cont(thread.tid_));
  return waiting;
}

void HeldProcess::drop_farewell() {
  area_->header().farewell = 0;
  area_->keep_nothing();
}

// From the interpreter back into a ptrace stop.
Result<> HeldProcess::bring_back(HeldThread& thread) {
  if (!thread.inside_) return {};
  if (keeper_.faulted(thread.tid_)) {  // and so stands already
    keeper_.expect_stops(thread.tid_);
    return {};
  }
  return stop_serving(keeper_, thread.tid_);
}

// Out of the area, but not yet where it was: should the engine die now, the thread says by itself that it has
// left (or tries to, if the area is gone already) and goes home over its frame.
Result<> HeldProcess::park(HeldThread& thread) {
  if (!thread.inside_ || !can_tidy()) return {};
  return sys::ptrace::setregs(thread.tid_, registers_to_go_home(thread));
}

// Registers, mask and memory as they were; still stopped.
Result<> HeldProcess::put_back(HeldThread& thread) {
  if (!thread.captured_) return {};  // never touched
  TRY(reinstate(thread.tid_, thread.context_));
  if (thread.inside_) keeper_.dismiss(area_->cell(thread.slot_));
  thread.inside_ = false;
  if (!thread.under_frame_.empty())
    (void)sys::process_vm_write(leader().tid(), thread.frame_.address, thread.under_frame_);
  return {};
}

Result<> HeldProcess::withdraw() {
  if (withdrawn_ || released_ || threads_.empty()) return {};
  withdrawn_ = true;
  Result<> outcome;
  const auto note = [&](Result<> step) {
    if (!step && !is_gone(step.error()) && outcome) outcome = std::move(step);
  };
  note(give_up_mapping());
  // One that has faulted may do so again as long as it serves, and then the kernel forgets the action again.
  for (std::size_t i = 1; i < threads_.size(); ++i) note(bring_back(*threads_[i]));
  note(mend_actions());
  note(bring_back(leader()));
  for (std::size_t i = 1; i < threads_.size(); ++i) note(park(*threads_[i]));
  // Until its registers point elsewhere the leader is the interpreter's last thread, and would unmap by itself.
  note(unmap_area());
  for (auto& thread : threads_) note(put_back(*thread));
  return outcome;
}

Result<> HeldProcess::release(bool stop_afterwards) {
  Result<> outcome = withdraw();
  if (released_ || threads_.empty()) return outcome;
  released_ = true;
  for (auto& thread : threads_) {
    stop_afterwards = stop_afterwards || keeper_.was_stopped_meanwhile(thread->tid_);
    if (area_) keeper_.dismiss(area_->cell(thread->slot_));
  }
  if (stop_afterwards) (void)sys::kill(pid_, SIGSTOP);
  for (auto& thread : threads_) {
    // One that was asked to stop and has not yet (a failure came first) must do so to be detached.
    if (!thread->stopped_ && !keeper_.died(thread->tid_))
      (void)keeper_.wait_stop(thread->tid_, within(std::chrono::milliseconds(200)));
    if (!thread->captured_) go_on_waiting(thread->tid_);
    keeper_.forget(thread->tid_);
    if (Result<> detached = sys::ptrace::detach(thread->tid_); !detached && !is_gone(detached.error()) && outcome)
      outcome = std::move(detached);
  }
  return outcome;
}

Result<> HeldProcess::begin_kill() {
  released_ = true;
  for (auto& thread : threads_) keeper_.expect_stops(thread->tid_);
  const Result<> sent = sys::kill(pid_, SIGKILL);
  if (!sent && !is_gone(sent.error())) return fail(sent.error());
  return {};
}

Result<> HeldProcess::finish_kill(Deadline deadline) {
  Result<> outcome;
  const auto wait_for = [&](const HeldThread& thread) {
    Result<Stop> gone = keeper_.wait_stop(thread.tid_, deadline);
    while (gone) gone = keeper_.wait_stop(thread.tid_, deadline);
    if (!is_gone(gone.error()) && outcome) outcome = fail(std::move(gone).error().owner(name_));
  };
  // The main thread's end is told last, when all others have been waited for. When the youngest has ended, most have: what
  // is left of them is then taken away by several at once.
  std::vector<std::uint8_t> collected(threads_.size());
  if (threads_.size() > kManyThreads) {
    wait_for(*threads_.back());
    collected.back() = 1;
    TRY(in_parallel(threads_.size() - 2, [&](std::size_t i) -> Result<> {
      collected[i + 1] = Keeper::collect_end(threads_[i + 1]->tid_);
      return {};
    }, kManyThreads));
  }
  for (std::size_t i = threads_.size(); i-- > 0;)
    if (!collected[i]) wait_for(*threads_[i]);
  if (area_)
    for (auto& thread : threads_) keeper_.dismiss(area_->cell(thread->slot_));
  for (auto& thread : threads_) keeper_.forget(thread->tid_);
  return outcome;
}

}  // namespace dormouse::parasite
