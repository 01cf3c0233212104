#include "engine/task/late_timers.h"

#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/format.h"
#include "engine/task/timers.h"
#include "images/schema/task.pb.h"
#include "images/schema/timers.pb.h"
#include "parasite/host/signal_action.h"

namespace dormouse::engine {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

bool is_of(const siginfo_t& info, const pb::posix_timer_entry& timer) {
  return info.si_code == SI_TIMER && static_cast<std::uint32_t>(info.si_timerid) == timer.it_id() &&
         static_cast<std::uint32_t>(info.si_signo) == timer.si_signo() && timer.it_sigev_notify() != SIGEV_NONE;
}

// Those of other processes and threads are negative.
bool counts_cpu_time(std::uint32_t clock) {
  return clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID || static_cast<clockid_t>(clock) < 0;
}

std::optional<siginfo_t> find_waiting(Cores cores, const pb::posix_timer_entry& timer) {
  std::optional<siginfo_t> found;
  const auto look = [&](const pb::signal_queue_entry& queue) {
    for (const pb::siginfo_entry& entry : queue.signals())
      if (const auto info = info_of(entry); info && is_of(*info, timer)) found = info;
  };
  look(cores.front()->tc().signals_s());
  for (const pb::core_entry* core : cores) look(core->thread_core().signals_p());
  return found;
}

bool waits_for_process(Cores cores, std::uint32_t signal) {
  return std::ranges::any_of(cores.front()->tc().signals_s().signals(), [&](const pb::siginfo_entry& entry) {
    const auto info = info_of(entry);
    return info && static_cast<std::uint32_t>(info->si_signo) == signal;
  });
}

// Empty if it is not late.
Result<std::optional<LateTimer>> lateness(Cores cores, const pb::posix_timer_entry& timer, std::int64_t now) {
  if (timer.it_sigev_notify() == SIGEV_NONE) return std::nullopt;
  const itimerspec left = TRY(times_of(timer));
  const bool runs = left.it_value.tv_sec != 0 || left.it_value.tv_nsec != 0;
  if (timer.overrun() != 0) {
    // A thread that takes a signal is given its own first, and else one of the process, which the leader queues meanwhile.
    const bool in_doubt = timer.it_sigev_notify() == SIGEV_THREAD_ID && waits_for_process(cores, timer.si_signo());
    if (!repeats(timer) || in_doubt) return std::nullopt;
    return LateTimer{timer.clock_id(), left, late_since(now, left, timer.overrun()), false};
  }
  const auto waiting = find_waiting(cores, timer);
  // One that does not repeat and has time left was set anew since its signal was sent.
  if (!waiting || repeats(timer) != runs) return std::nullopt;
  return LateTimer{timer.clock_id(), left, late_since(now, left, static_cast<std::uint32_t>(std::max(waiting->si_overrun, 0))), true};
}

}  // namespace

std::optional<siginfo_t> info_of(const pb::siginfo_entry& queued) {
  siginfo_t info;
  if (queued.siginfo().size() != sizeof info) return std::nullopt;
  std::memcpy(&info, queued.siginfo().data(), sizeof info);
  return info;
}

const pb::posix_timer_entry* sender_of(const siginfo_t& info, const pb::task_timers_entry& timers) {
  const auto sender =
      std::ranges::find_if(timers.posix(), [&](const pb::posix_timer_entry& timer) { return is_of(info, timer); });
  return sender == timers.posix().end() ? nullptr : &*sender;
}

bool repeats(const pb::posix_timer_entry& timer) { return timer.isec() != 0 || timer.insec() != 0; }

std::int64_t nanoseconds(const timespec& time) { return time.tv_sec * kSecond + time.tv_nsec; }

std::int64_t late_since(std::int64_t now, const itimerspec& left, std::uint32_t overruns) {
  const auto wide = [](const timespec& time) { return static_cast<__int128>(time.tv_sec) * kSecond + time.tv_nsec; };
  const __int128 period = wide(left.it_interval);
  const __int128 since = period == 0 ? now : now + wide(left.it_value) - period * (static_cast<__int128>(overruns) + 1);
  return static_cast<std::int64_t>(std::clamp<__int128>(since, 1, std::max<std::int64_t>(now, 1)));
}

// Timers expire in an interrupt: a sleep of the same thread that begins afterwards ends after it.
//
// One that counts CPU time expires at once if its time has come by the kernel's count, which lags behind clock_gettime() by what
// threads have run since a tick or a switch (thread_group_start_cputimer()); otherwise it waits for a tick of a process that does
// nothing. In a millisecond all of its threads have been switched, also those that were still looking out for work.
void append_late_start(parasite::Program& program, std::uint32_t id, std::uint32_t clock, const itimerspec& timer,
                       std::int64_t since) {
  if (counts_cpu_time(clock))
    program.call("let the time be counted", SYS_nanosleep, {program.value(timespec{0, 1'000'000}), 0});
  const itimerspec start{timer.it_interval, {since / kSecond, since % kSecond}};
  program.call(format("start timer {} late", id), SYS_timer_settime, {id, TIMER_ABSTIME, program.value(start), 0});
  program.call("wait until it has expired", SYS_nanosleep, {program.value(timespec{0, 1}), 0});
}

void TimerClocks::ask(parasite::Program& program, Cores cores) {
  for (const pb::posix_timer_entry& timer : cores.front()->tc().timers().posix()) {
    const auto late = lateness(cores, timer, 0);
    if (!late || !*late || asked_.contains(timer.clock_id())) continue;
    const auto now = program.zeros(sizeof(timespec));
    const auto clock = static_cast<clockid_t>(timer.clock_id());
    program.call(format("ask for the clock of timer {}", timer.it_id()), SYS_clock_gettime, {clock, now});
    asked_.emplace(timer.clock_id(), now);
  }
}

void TimerClocks::take(const parasite::Placed& placed) {
  for (const auto& [clock, at] : asked_) now_[clock] = nanoseconds(placed.value<timespec>(at));
}

Result<LateTimers> TimerClocks::plan(Cores cores) const {
  LateTimers late;
  for (const pb::posix_timer_entry& timer : cores.front()->tc().timers().posix()) {
    const auto now = now_.find(timer.clock_id());
    if (now == now_.end()) continue;
    if (const auto found = TRY(lateness(cores, timer, now->second))) late.emplace(timer.it_id(), *found);
  }
  return late;
}

void append_overruns(parasite::Program& program, const pb::task_timers_entry& from, const LateTimers& late,
                     std::uint32_t thread, bool is_leader) {
  for (const pb::posix_timer_entry& timer : from.posix()) {
    const auto found = late.find(timer.it_id());
    if (found == late.end() || found->second.waits) continue;
    const bool of_thread = timer.it_sigev_notify() == SIGEV_THREAD_ID;
    if (of_thread ? static_cast<std::uint32_t>(timer.notify_thread_id()) != thread : !is_leader) continue;
    append_late_start(program, timer.it_id(), found->second.clock, found->second.timer, found->second.since);
    const std::uint32_t signal = timer.si_signo();
    program.call(format("take the signal of timer {}", timer.it_id()), SYS_rt_sigtimedwait,
                 {program.value(std::uint64_t{1} << ((signal - 1) % 64)), 0, program.value(timespec{1, 0}),
                  parasite::kMaskBytes},
                 parasite::exactly(signal));
  }
}

}  // namespace dormouse::engine
