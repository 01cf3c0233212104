#include "engine/task/signals.h"

#include <sys/syscall.h>

#include <cstring>

#include "base/format.h"
#include "images/schema/task.pb.h"
#include "parasite/host/signal_action.h"

namespace dormouse::engine {
namespace {

constexpr int kSignals = 64;
constexpr std::uint32_t kSsAutodisarm = 1u << 31;  // SS_AUTODISARM, Linux 4.7

using parasite::kMaskBytes;
using parasite::SignalAction;
using parasite::SignalAction32;

static_assert(sizeof(siginfo_t) == 128);

// SIGKILL and SIGSTOP have no action to speak of, and no place in the image.
constexpr bool has_action(int number) { return number != SIGKILL && number != SIGSTOP; }

parasite::DataRef action_at(parasite::DataRef all, int number) {
  return all + static_cast<std::uint32_t>((number - 1) * sizeof(SignalAction));
}

}  // namespace

std::string signal_name(int number) {
  if (const char* name = ::sigabbrev_np(number)) return format("SIG{}", name);
  return format("real-time signal {}", number);
}

SignalActionsAsked ask_signal_actions(parasite::Program& program) {
  const SignalActionsAsked asked{program.zeros(kSignals * sizeof(SignalAction))};
  for (int number = 1; number <= kSignals; ++number)
    if (has_action(number))
      program.call("ask for a signal action", SYS_rt_sigaction,
                   {number, 0, action_at(asked.answers, number), kMaskBytes});
  return asked;
}

void save_signal_actions(const parasite::Placed& placed, SignalActionsAsked asked, bool by_32_bit_code,
                         pb::task_core_entry& to) {
  for (int number = 1; number <= kSignals; ++number) {
    if (!has_action(number)) continue;
    const auto action = placed.value<SignalAction>(action_at(asked.answers, number));
    pb::sa_entry& entry = *to.add_sigactions();
    entry.set_sigaction(action.handler);
    entry.set_flags(action.flags);
    entry.set_restorer(action.restorer);
    entry.set_mask(action.mask);
    entry.set_compat_sigaction(by_32_bit_code);
  }
}

std::vector<siginfo_t> with_unqueued(std::vector<siginfo_t> queue, std::uint64_t pending) {
  for (const siginfo_t& info : queue)
    if (info.si_signo >= 1 && info.si_signo <= kSignals) pending &= ~(std::uint64_t{1} << (info.si_signo - 1));
  for (int number = 1; number <= kSignals; ++number) {
    if (!has_action(number) || !(pending & (std::uint64_t{1} << (number - 1)))) continue;
    siginfo_t info{};  // from process 0, user 0 (collect_signal, kernel/signal.c)
    info.si_signo = number;
    info.si_code = SI_USER;
    queue.push_back(info);
  }
  return queue;
}

void save_queue(std::span<const siginfo_t> queue, pb::signal_queue_entry& to) {
  for (const siginfo_t& info : queue) to.add_signals()->set_siginfo(&info, sizeof info);
}

void save_alternate_stack(const stack_t& stack, pb::thread_sas_entry& to) {
  to.set_ss_sp(reinterpret_cast<std::uint64_t>(stack.ss_sp));
  to.set_ss_size(stack.ss_size);
  to.set_ss_flags(static_cast<std::uint32_t>(stack.ss_flags));
}

Result<> append_signal_actions(parasite::Program& program, const pb::task_core_entry& from) {
  if (from.sigactions_size() != kSignals - 2)
    return fail(Error::corrupt(format("{} signal actions instead of {}", from.sigactions_size(), kSignals - 2)));
  // Blocked, a SIGCHLD is queued even where nobody listens. Setting its default action discards it, and
  // unlike "ignore" does not take zombies away.
  program.call("discard SIGCHLD", SYS_rt_sigaction, {SIGCHLD, program.value(SignalAction{}), 0, kMaskBytes});
  int index = 0;
  for (int number = 1; number <= kSignals; ++number) {
    if (!has_action(number)) continue;
    const pb::sa_entry& entry = from.sigactions(index++);
    const std::string label = "signal action of " + signal_name(number);
    const SignalAction action{entry.sigaction(), entry.flags(), entry.restorer(), entry.mask()};
    if (entry.compat_sigaction()) {
      if ((entry.sigaction() | entry.restorer()) >> 32)
        return fail(Error::corrupt("an address that 32-bit code cannot have").object(label));
      program.call32(label, parasite::kSigaction32, {number, program.value(SignalAction32(action)), 0, kMaskBytes});
      continue;
    }
    program.call(label, SYS_rt_sigaction, {number, program.value(action), 0, kMaskBytes});
  }
  return {};
}

Result<> append_queue(parasite::Program& program, const pb::signal_queue_entry& from, QueueOf of,
                      const LateTimers& late) {
  if (from.signals_size() == 0) return {};
  // A signal to oneself may carry any siginfo, also one that claims to come from the kernel; to another
  // thread it may not (kernel/signal.c: do_rt_sigqueueinfo).
  const parasite::OpRef pid = program.call("", SYS_getpid, {});
  const parasite::OpRef tid = program.call("", SYS_gettid, {});
  for (const pb::siginfo_entry& entry : from.signals()) {
    const auto queued = info_of(entry);
    if (!queued) return fail(Error::corrupt(format("a queued signal of {} bytes", entry.siginfo().size())));
    const siginfo_t& info = *queued;
    if (info.si_signo < 1 || info.si_signo > kSignals)
      return fail(Error::corrupt(format("a queued signal with number {}", info.si_signo)));
    const auto timer = late.find(static_cast<std::uint32_t>(info.si_timerid));
    if (info.si_code == SI_TIMER && timer != late.end() && timer->second.waits) {
      append_late_start(program, timer->first, timer->second.clock, timer->second.timer, timer->second.since);
      continue;
    }
    // Cannot wait in a queue: the process was about to be stopped or killed when it was saved.
    if (!has_action(info.si_signo)) continue;
    const parasite::DataRef data = program.value(info);
    const std::string label = "queue " + signal_name(info.si_signo);
    if (of == QueueOf::kProcess)
      program.call(label, SYS_rt_sigqueueinfo, {pid, info.si_signo, data});
    else
      program.call(label, SYS_rt_tgsigqueueinfo, {pid, tid, info.si_signo, data});
  }
  return {};
}

void append_alternate_stack(parasite::Program& program, const pb::thread_sas_entry& from) {
  stack_t stack{};
  stack.ss_sp = reinterpret_cast<void*>(from.ss_sp());
  stack.ss_size = from.ss_size();
  // SS_ONSTACK is an answer only: whether the thread is on it follows from its stack pointer.
  stack.ss_flags = static_cast<int>(from.ss_flags() & (SS_DISABLE | kSsAutodisarm));
  program.call("alternate signal stack", SYS_sigaltstack, {program.value(stack), 0});
}

}  // namespace dormouse::engine
