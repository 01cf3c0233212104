#include "engine/task/timers.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include <algorithm>
#include <ranges>

#include "base/format.h"
#include "images/schema/timers.pb.h"

namespace dormouse::engine {
namespace {

constexpr int kIntervalTimers[] = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF};
constexpr std::string_view kIntervalNames[] = {"real interval timer", "virtual interval timer",
                                               "profiling interval timer"};
constexpr int kTimerCreateRestoreIds = 77;  // PR_TIMER_CREATE_RESTORE_IDS
// Without it, ids are handed out in order, and every one before the wanted one costs two calls.
constexpr std::uint32_t kMostCountedIds = 2000;

// The clock of one thread's CPU time is stored by the kernel as "that of the thread which made the timer", whichever
// that was (kernel/time/posix-cpu-timers.c: THREAD_CLOCK). A timer that signals one thread is taken to count that one's
// time, as profilers use them.
constexpr clockid_t kCreatorsCpuTime = -2;
Result<clockid_t> clock_of(const proc::PosixTimer& timer, const Task& task, pid_t notified) {
  if (timer.clock_id != kCreatorsCpuTime || task.threads.size() == 1) return timer.clock_id;
  constexpr int kSchedulerTimeOfThread = 6;  // CPUCLOCK_SCHED | CPUCLOCK_PERTHREAD_MASK
  if (timer.notify == SIGEV_THREAD_ID)
    return static_cast<clockid_t>(~static_cast<unsigned>(notified) << 3 | kSchedulerTimeOfThread);
  return fail(Error::unsupported("it counts the CPU time of one thread, and the kernel does not tell of which")
                  .object(format("timer {}", timer.id))
                  .remedy("make it with the clock that pthread_getcpuclockid() tells"));
}

parasite::DataRef interval_at(parasite::DataRef all, int which) {
  return all + static_cast<std::uint32_t>(static_cast<std::size_t>(which) * sizeof(itimerval));
}

void save_interval(const itimerval& from, pb::itimer_entry& to) {
  to.set_isec(static_cast<std::uint64_t>(from.it_interval.tv_sec));
  to.set_iusec(static_cast<std::uint64_t>(from.it_interval.tv_usec));
  to.set_vsec(static_cast<std::uint64_t>(from.it_value.tv_sec));
  to.set_vusec(static_cast<std::uint64_t>(from.it_value.tv_usec));
}

bool is_time(std::uint64_t seconds, std::uint64_t fraction, std::uint64_t fractions_per_second) {
  return seconds <= 0x7fff'ffff'ffff'ffff && fraction < fractions_per_second;
}

// A repeating timer with no time left had just fired: the next time is one period away.
Result<itimerval> interval_of(const pb::itimer_entry& from) {
  constexpr std::uint64_t kMicroseconds = 1'000'000;
  if (!is_time(from.isec(), from.iusec(), kMicroseconds) || !is_time(from.vsec(), from.vusec(), kMicroseconds))
    return fail(Error::corrupt("a time out of range"));
  itimerval timer{};
  timer.it_interval = {static_cast<time_t>(from.isec()), static_cast<suseconds_t>(from.iusec())};
  timer.it_value = {static_cast<time_t>(from.vsec()), static_cast<suseconds_t>(from.vusec())};
  if (from.vsec() == 0 && from.vusec() == 0) timer.it_value = timer.it_interval;
  return timer;
}

bool armed(const itimerspec& timer) { return timer.it_value.tv_sec != 0 || timer.it_value.tv_nsec != 0; }
bool armed(const itimerval& timer) { return timer.it_value.tv_sec != 0 || timer.it_value.tv_usec != 0; }

parasite::DataRef event_of(parasite::Program& program, const pb::posix_timer_entry& from) {
  sigevent event{};
  event.sigev_value.sival_ptr = reinterpret_cast<void*>(from.sival_ptr());
  event.sigev_signo = static_cast<int>(from.si_signo());
  event.sigev_notify = static_cast<int>(from.it_sigev_notify());
  event._sigev_un._tid = from.notify_thread_id();
  return program.value(event);
}

// Ids of a process count up from 0: takes and gives back those before the wanted one.
void append_skipped_ids(parasite::Program& program, std::uint32_t first, std::uint32_t wanted) {
  const parasite::DataRef scratch = program.zeros(sizeof(int));
  for (std::uint32_t id = first; id < wanted; ++id) {
    program.call("skip a timer id", SYS_timer_create, {CLOCK_MONOTONIC, 0, scratch});
    program.call("skip a timer id", SYS_timer_delete, {parasite::Load{scratch}});
  }
}

}  // namespace

Result<itimerspec> times_of(const pb::posix_timer_entry& from) {
  constexpr std::uint64_t kNanoseconds = 1'000'000'000;
  if (!is_time(from.isec(), from.insec(), kNanoseconds) || !is_time(from.vsec(), from.vnsec(), kNanoseconds))
    return fail(Error::corrupt("a time out of range").object(format("timer {}", from.it_id())));
  itimerspec timer{};
  timer.it_interval = {static_cast<time_t>(from.isec()), static_cast<long>(from.insec())};
  timer.it_value = {static_cast<time_t>(from.vsec()), static_cast<long>(from.vnsec())};
  if (from.vsec() == 0 && from.vnsec() == 0) timer.it_value = timer.it_interval;
  return timer;
}

std::vector<siginfo_t> without_deleted_timers(std::vector<siginfo_t> queue, std::span<const proc::PosixTimer> timers) {
  std::erase_if(queue, [&](const siginfo_t& info) {
    return info.si_code == SI_TIMER && std::ranges::find(timers, info.si_timerid, &proc::PosixTimer::id) == timers.end();
  });
  return queue;
}

TimersAsked ask_timers(parasite::Program& program, std::span<const proc::PosixTimer> timers) {
  TimersAsked asked;
  asked.intervals = program.zeros(std::size(kIntervalTimers) * sizeof(itimerval));
  for (const int which : kIntervalTimers)
    program.call("ask for an interval timer", SYS_getitimer, {which, interval_at(asked.intervals, which)});
  // Oldest first, the other way round than /proc tells them.
  for (const proc::PosixTimer& timer : std::views::reverse(timers)) {
    const parasite::DataRef value = program.zeros(sizeof(itimerspec));
    program.call(format("ask for timer {}", timer.id), SYS_timer_gettime, {timer.id, value});
    const parasite::OpRef overrun =
        program.call(format("ask for overruns of timer {}", timer.id), SYS_timer_getoverrun, {timer.id});
    asked.posix.push_back({timer, value, overrun});
  }
  asked.pending = program.zeros(sizeof(std::uint64_t));
  program.call("ask which signals wait", SYS_rt_sigpending, {asked.pending, sizeof(std::uint64_t)});
  return asked;
}

Result<> save_timers(const parasite::Placed& placed, const TimersAsked& asked, const Task& task,
                     pb::task_timers_entry& to) {
  const auto interval = [&](int which) {
    return placed.value<itimerval>(interval_at(asked.intervals, which));
  };
  save_interval(interval(ITIMER_REAL), *to.mutable_real());
  save_interval(interval(ITIMER_VIRTUAL), *to.mutable_virt());
  save_interval(interval(ITIMER_PROF), *to.mutable_prof());
  for (const TimersAsked::Posix& timer : asked.posix) {
    pb::posix_timer_entry& entry = *to.add_posix();
    const auto value = placed.value<itimerspec>(timer.value);
    entry.set_it_id(static_cast<std::uint32_t>(timer.about.id));
    entry.set_si_signo(static_cast<std::uint32_t>(timer.about.signal));
    entry.set_it_sigev_notify(static_cast<std::uint32_t>(timer.about.notify));
    entry.set_sival_ptr(timer.about.value);
    entry.set_overrun(static_cast<std::uint32_t>(placed.result(timer.overrun)));
    entry.set_isec(static_cast<std::uint64_t>(value.it_interval.tv_sec));
    entry.set_insec(static_cast<std::uint64_t>(value.it_interval.tv_nsec));
    entry.set_vsec(static_cast<std::uint64_t>(value.it_value.tv_sec));
    entry.set_vnsec(static_cast<std::uint64_t>(value.it_value.tv_nsec));
    const auto thread = std::ranges::find(task.threads, timer.about.notified, &Thread::tid);
    const bool of_thread = timer.about.notify == SIGEV_THREAD_ID;
    if (of_thread && thread == task.threads.end())
      return fail(Error::unsupported("it signals a thread that is gone")
                      .object(format("timer {}", timer.about.id))
                      .remedy("delete the timer before the thread ends"));
    if (of_thread) entry.set_notify_thread_id(thread->ns_tid);
    entry.set_clock_id(static_cast<std::uint32_t>(TRY(clock_of(timer.about, task, of_thread ? thread->ns_tid : 0))));
  }
  return {};
}

Result<> append_timer_creation(parasite::Program& program, const pb::task_timers_entry& from, bool choose_ids) {
  if (from.posix_size() == 0) return {};
  std::vector<const pb::posix_timer_entry*> timers;
  for (const auto& timer : from.posix()) timers.push_back(&timer);
  std::ranges::sort(timers, {}, [](const auto* timer) { return timer->it_id(); });
  if (choose_ids) program.call("let timer ids be chosen", SYS_prctl, {kTimerCreateRestoreIds, 1, 0, 0, 0});
  std::uint32_t next = 0;
  for (const pb::posix_timer_entry* timer : timers) {
    const std::uint32_t id = timer->it_id();
    if (id < next) return fail(Error::corrupt("two timers with the same id").object(format("timer {}", id)));
    if (!choose_ids) {
      if (id > kMostCountedIds)
        return fail(Error::unsupported("its id cannot be had on this kernel")
                        .object(format("timer {}", id))
                        .remedy("Linux 6.15 can"));
      append_skipped_ids(program, next, id);
    }
    const std::string name = format("create timer {}", id);
    const parasite::DataRef chosen = program.value(id);
    program.call(name, SYS_timer_create, {timer->clock_id(), event_of(program, *timer), chosen});
    // That it got the right id shows only in the memory of the task; that there is a timer of that id,
    // here.
    if (!choose_ids) program.call(name + " with that id", SYS_timer_getoverrun, {id});
    next = id + 1;
  }
  if (choose_ids) program.call("timer ids by count again", SYS_prctl, {kTimerCreateRestoreIds, 0, 0, 0, 0});
  return {};
}

Result<> append_timer_start(parasite::Program& program, const pb::task_timers_entry& from, const LateTimers& late) {
  const pb::itimer_entry* intervals[] = {&from.real(), &from.virt(), &from.prof()};
  for (std::size_t i = 0; i < std::size(intervals); ++i) {
    const std::string name(kIntervalNames[i]);
    const itimerval timer = TRY_OR(interval_of(*intervals[i]), std::move(e).object(name));
    if (armed(timer)) program.call("start the " + name, SYS_setitimer, {kIntervalTimers[i], program.value(timer), 0});
  }
  for (const pb::posix_timer_entry& entry : from.posix()) {
    const itimerspec timer = TRY(times_of(entry));
    if (armed(timer) && !late.contains(entry.it_id()))
      program.call(format("start timer {}", entry.it_id()), SYS_timer_settime,
                   {entry.it_id(), 0, program.value(timer), 0});
  }
  return {};
}

}  // namespace dormouse::engine
