#include "engine/task/waiting_timers.h"

#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <map>
#include <set>

#include "engine/task/late_timers.h"
#include "images/schema/task.pb.h"
#include "images/schema/timers.pb.h"
#include "parasite/host/signal_action.h"

namespace dormouse::engine {
namespace {

using parasite::kMaskBytes;

bool is_of_same_timer(const siginfo_t& a, const siginfo_t& b) {
  return a.si_code == SI_TIMER && b.si_code == SI_TIMER && a.si_signo == b.si_signo && a.si_timerid == b.si_timerid;
}

// The signals of one group, taken from the kernel and given back.
class Delivery {
 public:
  Delivery(parasite::Keeper& keeper, parasite::HeldProcess& held, const WaitingTimers& waiting)
      : keeper_(keeper), held_(held), waiting_(waiting),
        thread_(*held.threads()[waiting.queue == 0 ? 0 : waiting.queue - 1]) {}
  ~Delivery() { held_.drop_farewell(); }

  [[nodiscard]] Result<> take();
  // As the kernel delivered them, with what the timers have overrun since.
  const std::vector<siginfo_t>& taken() const { return taken_; }
  // What was left when they were counted: another period may have begun since the timers were asked first.
  void update_times(pb::task_timers_entry& timers) const;
  [[nodiscard]] Result<> give_back();

 private:
  using Questions = std::map<std::uint32_t, std::pair<parasite::DataRef, parasite::DataRef>>;  // by id: time left, clock

  // The first half are of the signals that wait, the second of those that come while the timers are asked.
  std::size_t slots() const { return 2 * waiting_.timers.size(); }
  parasite::DataRef info_at(std::size_t index) const {
    return infos_ + static_cast<std::uint32_t>(index * sizeof(siginfo_t));
  }
  siginfo_t info(std::size_t index) const { return placed_farewell_.value<siginfo_t>(info_at(index)); }
  void clear(std::size_t index) { std::ranges::fill(placed_farewell_.data(info_at(index), sizeof(siginfo_t)), std::byte{}); }
  [[nodiscard]] Result<> prepare_farewell();
  void append_taking(parasite::Program& program, std::size_t first_slot) const;
  [[nodiscard]] Result<> ask(parasite::Program program);
  bool note_expiries();
  [[nodiscard]] Result<> run(const parasite::Program& program, parasite::Placed& placed);
  void requeue();

  parasite::Keeper& keeper_;
  parasite::HeldProcess& held_;
  const WaitingTimers& waiting_;
  parasite::HeldThread& thread_;
  // Queues again what was taken, and has it: a signal's number is 0 where there is nothing to be given back.
  parasite::Program farewell_;
  parasite::Placed placed_farewell_;
  parasite::DataRef infos_, tid_;
  std::vector<siginfo_t> taken_;
  struct Seen {
    std::uint32_t clock;
    itimerspec left;
    std::int64_t now;  // on its clock
  };
  std::map<std::uint32_t, Seen> seen_;  // by id
};

Result<> Delivery::run(const parasite::Program& program, parasite::Placed& placed) {
  held_.area().rewind();
  parasite::Batch batch(keeper_);
  TRY(batch.add(held_, thread_, program));
  TRY(batch.run());
  placed = batch.placed(0);
  return {};
}

Result<> Delivery::prepare_farewell() {
  const auto any = parasite::anything();
  tid_ = farewell_.zeros(sizeof(std::uint64_t));
  infos_ = farewell_.zeros(slots() * sizeof(siginfo_t));
  const parasite::OpRef pid = farewell_.call("", SYS_getpid, {});
  for (std::size_t i = 0; i < slots(); ++i) {
    const parasite::DataRef info = info_at(i);
    if (waiting_.queue == 0)
      farewell_.call("", SYS_rt_sigqueueinfo, {pid, parasite::Load{info}, info}, any);
    else
      farewell_.call("", SYS_rt_tgsigqueueinfo, {pid, parasite::Load{tid_}, parasite::Load{info}, info}, any);
  }
  placed_farewell_ = TRY(held_.set_farewell(farewell_));
  return {};
}

void Delivery::append_taking(parasite::Program& program, std::size_t first_slot) const {
  const auto mask = program.value(std::uint64_t{1} << (waiting_.signal - 1)), no_time = program.value(timespec{});
  for (std::size_t i = 0; i < waiting_.timers.size(); ++i)
    program.call("take a timer's signal", SYS_rt_sigtimedwait,
                 {mask, placed_farewell_.data_address(info_at(first_slot + i)), no_time, kMaskBytes}, parasite::ok_or(EAGAIN));
}

// After what `program` does. A period that ends in between shows in another signal.
Result<> Delivery::ask(parasite::Program program) {
  Questions asked;
  for (const pb::posix_timer_entry* timer : waiting_.timers) {
    const auto left = program.zeros(sizeof(itimerspec)), now = program.zeros(sizeof(timespec));
    program.call("ask for a timer", SYS_timer_gettime, {timer->it_id(), left});
    program.call("ask for a timer's clock", SYS_clock_gettime, {static_cast<clockid_t>(timer->clock_id()), now});
    asked[timer->it_id()] = {left, now};
  }
  append_taking(program, waiting_.timers.size());
  parasite::Placed placed;
  TRY(run(program, placed));
  for (const pb::posix_timer_entry* timer : waiting_.timers) {
    const auto& [left, now] = asked.at(timer->it_id());
    seen_[timer->it_id()] = {timer->clock_id(), placed.value<itimerspec>(left), nanoseconds(placed.value<timespec>(now))};
  }
  return {};
}

// Whether the timers are to be asked again. What nobody has waited for is to be given back as well, and the last to be taken.
bool Delivery::note_expiries() {
  bool expired = false, others = false;
  for (std::size_t i = waiting_.timers.size(); i < slots(); ++i) {
    const siginfo_t another = info(i);
    if (another.si_signo == 0) continue;
    if (add_expiry(taken_, another)) {
      expired = true;
      clear(i);
    } else {
      others = true;
      taken_.push_back(another);
    }
  }
  return expired && !others;
}

Result<> Delivery::take() {
  TRY(prepare_farewell());
  parasite::Program program;
  const parasite::OpRef tid = program.call("", SYS_gettid, {});
  program.perform(parasite::OpCode::kStore, "", {placed_farewell_.data_address(tid_), tid});
  append_taking(program, 0);
  Result<> asked = ask(std::move(program));
  for (std::size_t i = 0; i < waiting_.timers.size(); ++i)
    if (const siginfo_t first = info(i); first.si_signo != 0) taken_.push_back(first);
  // Of periods so short that one always ends meanwhile nobody can tell how many have.
  constexpr int kMostTries = 8;
  for (int tries = 1; asked && note_expiries() && tries < kMostTries; ++tries) asked = ask({});
  if (!asked) requeue();
  return asked;
}

void Delivery::update_times(pb::task_timers_entry& timers) const {
  for (pb::posix_timer_entry& timer : *timers.mutable_posix()) {
    const auto seen = seen_.find(timer.it_id());
    if (seen == seen_.end()) continue;
    timer.set_vsec(static_cast<std::uint64_t>(seen->second.left.it_value.tv_sec));
    timer.set_vnsec(static_cast<std::uint64_t>(seen->second.left.it_value.tv_nsec));
  }
}

Result<> Delivery::give_back() {
  parasite::Program program;
  for (std::size_t i = 0; i < slots(); ++i) {
    const auto taken = std::ranges::find_if(taken_, [&](const siginfo_t& each) { return is_of_same_timer(each, info(i)); });
    const auto seen = taken == taken_.end() ? seen_.end() : seen_.find(static_cast<std::uint32_t>(taken->si_timerid));
    if (seen == seen_.end()) continue;
    const auto& [clock, left, now] = seen->second;
    const auto overruns = static_cast<std::uint32_t>(std::max(taken->si_overrun, 0));
    append_late_start(program, seen->first, clock, left, late_since(now, left, overruns));
    program.perform(parasite::OpCode::kStore, "", {placed_farewell_.data_address(info_at(i)), 0});
  }
  parasite::Placed placed;
  Result<> ran = run(program, placed);
  requeue();
  return ran;
}

// What is still to be given back: nothing, unless something failed.
void Delivery::requeue() {
  parasite::Program program;
  const parasite::OpRef pid = program.call("", SYS_getpid, {}), tid = program.call("", SYS_gettid, {});
  bool any = false;
  for (std::size_t i = 0; i < slots(); ++i) {
    const siginfo_t left = info(i);
    if (left.si_signo == 0) continue;
    any = true;
    if (waiting_.queue == 0) program.call("", SYS_rt_sigqueueinfo, {pid, waiting_.signal, program.value(left)});
    else program.call("", SYS_rt_tgsigqueueinfo, {pid, tid, waiting_.signal, program.value(left)});
  }
  parasite::Placed placed;
  if (any) (void)run(program, placed);
}

std::size_t count_of(const pb::signal_queue_entry& queue, int signal) {
  return static_cast<std::size_t>(std::ranges::count_if(queue.signals(), [&](const pb::siginfo_entry& entry) {
    const auto info = info_of(entry);
    return info && info->si_signo == signal;
  }));
}

void replace(pb::signal_queue_entry& queue, int signal, const std::vector<siginfo_t>& by) {
  pb::signal_queue_entry others;
  for (const pb::siginfo_entry& entry : queue.signals())
    if (const auto info = info_of(entry); !info || info->si_signo != signal) *others.add_signals() = entry;
  for (const siginfo_t& info : by) others.add_signals()->set_siginfo(&info, sizeof info);
  queue = std::move(others);
}

}  // namespace

std::vector<WaitingTimers> find_waiting_timers(const SignalQueues& queues, const pb::task_timers_entry& timers) {
  std::vector<WaitingTimers> found;
  for (std::size_t i = 0; i < queues.size(); ++i) {
    for (const pb::siginfo_entry& entry : queues[i]->signals()) {
      const auto info = info_of(entry);
      const pb::posix_timer_entry* timer = info ? sender_of(*info, timers) : nullptr;
      if (!timer) continue;
      auto group = std::ranges::find_if(
          found, [&](const WaitingTimers& each) { return each.queue == i && each.signal == info->si_signo; });
      if (group == found.end()) group = found.insert(found.end(), {i, info->si_signo, {}});
      group->timers.push_back(timer);
    }
  }
  std::erase_if(found, [&](const WaitingTimers& group) {
    // A thread that takes a signal gets its own first, and then the process's: there must be no doubt which they are.
    std::size_t all = 0;
    for (const pb::signal_queue_entry* queue : queues) all += count_of(*queue, group.signal);
    const auto has_overruns = [](const pb::posix_timer_entry* timer) { return timer->overrun() != 0; };
    return all != group.timers.size() || std::ranges::any_of(group.timers, has_overruns) ||
           std::set(group.timers.begin(), group.timers.end()).size() != all ||
           std::ranges::none_of(group.timers, [](const pb::posix_timer_entry* timer) { return repeats(*timer); });
  });
  return found;
}

bool add_expiry(std::vector<siginfo_t>& taken, const siginfo_t& another) {
  const auto first = std::ranges::find_if(taken, [&](const siginfo_t& each) { return is_of_same_timer(each, another); });
  if (first == taken.end()) return false;
  const std::int64_t sum = std::int64_t{std::max(first->si_overrun, 0)} + 1 + std::max(another.si_overrun, 0);
  first->si_overrun = static_cast<int>(std::min<std::int64_t>(sum, std::numeric_limits<int>::max()));
  return true;
}

Result<> count_overruns(parasite::Keeper& keeper, parasite::HeldProcess& held, const SignalQueues& queues,
                        pb::task_timers_entry& timers) {
  if (!held.can_tidy()) return {};
  for (const WaitingTimers& waiting : find_waiting_timers(queues, timers)) {
    Delivery delivery(keeper, held, waiting);
    TRY(delivery.take());
    TRY(delivery.give_back());
    delivery.update_times(timers);
    replace(*queues[waiting.queue], waiting.signal, delivery.taken());
  }
  held.area().rewind();
  return {};
}

}  // namespace dormouse::engine
