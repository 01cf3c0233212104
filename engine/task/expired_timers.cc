#include "engine/task/expired_timers.h"

#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <iterator>

#include "engine/task/late_timers.h"
#include "images/schema/task.pb.h"
#include "images/schema/timers.pb.h"

namespace dormouse::engine {
namespace {

void mark_interval(bool expired, pb::itimer_entry& timer) {
  if (expired) timer.set_vsec(0), timer.set_vusec(0);
}

}  // namespace

TimerSignals timer_signals(const SignalQueues& queues, const pb::task_timers_entry& timers) {
  TimerSignals found;
  for (const pb::signal_queue_entry* queue : queues) {
    for (const pb::siginfo_entry& entry : queue->signals()) {
      const auto info = info_of(entry);
      if (!info) continue;
      if (const pb::posix_timer_entry* timer = sender_of(*info, timers)) found.timers.insert(timer->it_id());
      if (std::ranges::find(kIntervalSignals, info->si_signo) != std::end(kIntervalSignals)) found.intervals.insert(info->si_signo);
    }
  }
  return found;
}

std::vector<pb::posix_timer_entry*> mark_expired(const TimerSignals& before, const TimerSignals& now,
                                                 pb::task_timers_entry& timers) {
  // The real one stands still until its signal is delivered, as what it tells then does.
  const auto is_new = [&](int signal) { return now.intervals.contains(signal) && !before.intervals.contains(signal); };
  mark_interval(is_new(SIGALRM), *timers.mutable_real());
  // The others go on.
  mark_interval(is_new(SIGVTALRM) && timers.virt().isec() == 0 && timers.virt().iusec() == 0, *timers.mutable_virt());
  mark_interval(is_new(SIGPROF) && timers.prof().isec() == 0 && timers.prof().iusec() == 0, *timers.mutable_prof());
  std::vector<pb::posix_timer_entry*> again;
  for (pb::posix_timer_entry& timer : *timers.mutable_posix()) {
    if (!now.timers.contains(timer.it_id()) || before.timers.contains(timer.it_id())) continue;
    if (repeats(timer)) again.push_back(&timer);
    else timer.set_vsec(0), timer.set_vnsec(0);
  }
  return again;
}

Result<> ask_again(parasite::Keeper& keeper, parasite::HeldProcess& held, const std::vector<pb::posix_timer_entry*>& timers) {
  if (timers.empty()) return {};
  parasite::Program program;
  std::vector<parasite::DataRef> left;
  for (const pb::posix_timer_entry* timer : timers) {
    left.push_back(program.zeros(sizeof(itimerspec)));
    program.call("ask for a timer again", SYS_timer_gettime, {timer->it_id(), left.back()});
  }
  held.area().rewind();
  parasite::Batch batch(keeper);
  TRY(batch.add(held, held.leader(), program));
  TRY(batch.run());
  for (std::size_t i = 0; i < timers.size(); ++i) {
    const auto value = batch.placed(0).value<itimerspec>(left[i]).it_value;
    timers[i]->set_vsec(static_cast<std::uint64_t>(value.tv_sec));
    timers[i]->set_vnsec(static_cast<std::uint64_t>(value.tv_nsec));
  }
  return {};
}

}  // namespace dormouse::engine
