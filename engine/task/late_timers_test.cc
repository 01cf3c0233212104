#include "engine/task/late_timers.h"

#include <gtest/gtest.h>

#include "engine/task/expired_timers.h"
#include "engine/task/waiting_timers.h"
#include "images/schema/task.pb.h"
#include "images/schema/timers.pb.h"

namespace dormouse::engine {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr int kSignal = 40;

struct Process {
  pb::core_entry leader, thread;
  std::vector<const pb::core_entry*> cores{&leader, &thread};

  Process() {
    for (pb::core_entry* core : {&leader, &thread}) core->mutable_thread_core()->mutable_signals_p();
    leader.mutable_tc()->mutable_signals_s();
  }
  pb::signal_queue_entry& shared() { return *leader.mutable_tc()->mutable_signals_s(); }
  SignalQueues queues() {
    return {&shared(), leader.mutable_thread_core()->mutable_signals_p(), thread.mutable_thread_core()->mutable_signals_p()};
  }
  // A period of 10 seconds, of which 4 are left.
  pb::posix_timer_entry& add_timer(std::uint32_t id) {
    pb::posix_timer_entry& timer = *leader.mutable_tc()->mutable_timers()->add_posix();
    timer.set_it_id(id), timer.set_clock_id(1), timer.set_si_signo(kSignal), timer.set_it_sigev_notify(SIGEV_SIGNAL);
    timer.set_overrun(0), timer.set_isec(10), timer.set_vsec(4);
    return timer;
  }
  LateTimers plan(std::int64_t now) const {
    TimerClocks clocks;
    parasite::Program program;
    clocks.ask(program, cores);
    clocks.set(1, now);
    return clocks.plan(cores).value();
  }
};

void queue(pb::signal_queue_entry& to, int timer, int overruns = 0, int code = SI_TIMER) {
  siginfo_t info{};
  info.si_signo = kSignal, info.si_code = code, info.si_timerid = timer, info.si_overrun = overruns;
  to.add_signals()->set_siginfo(&info, sizeof info);
}

TEST(LateTimersTest, ATimerIsAsLateAsItsOverrunsSay) {
  const itimerspec left{{10, 0}, {4, 0}};
  // Six seconds of this period are gone, and twenty of those before.
  EXPECT_EQ(late_since(100 * kSecond, left, 2), 74 * kSecond);
  EXPECT_EQ(late_since(100 * kSecond, left, 0), 94 * kSecond);
  EXPECT_EQ(late_since(100 * kSecond, {}, 0), 100 * kSecond);
}

TEST(LateTimersTest, NoTimerIsLaterThanItsClockIsOld) {
  const itimerspec left{{10, 0}, {4, 0}};
  EXPECT_EQ(late_since(3 * kSecond, left, 2), 1);
  EXPECT_EQ(late_since(0, left, 2), 1);
  const itimerspec longest{{INT64_MAX, 999'999'999}, {0, 1}};
  EXPECT_EQ(late_since(INT64_MAX, longest, UINT32_MAX), 1);
  const itimerspec absurd{{1, 0}, {INT64_MAX, 0}};
  EXPECT_EQ(late_since(7, absurd, 0), 7);
}

TEST(LateTimersTest, WhichTimersAreLate) {
  Process process;
  process.add_timer(0);
  process.add_timer(1);
  process.add_timer(2).set_overrun(3);
  pb::posix_timer_entry& once = process.add_timer(3);
  once.clear_isec(), once.clear_vsec();
  pb::posix_timer_entry& set_anew = process.add_timer(4);
  set_anew.set_isec(0);
  process.add_timer(5).set_it_sigev_notify(SIGEV_NONE);
  for (const int id : {1, 3, 4, 5, 77}) queue(process.shared(), id, 2);
  const LateTimers late = process.plan(100 * kSecond);
  ASSERT_EQ(late.size(), 3u);
  EXPECT_TRUE(late.at(1).waits);
  EXPECT_EQ(late.at(1).since, 74 * kSecond);
  EXPECT_FALSE(late.at(2).waits);
  EXPECT_EQ(late.at(2).since, 64 * kSecond);
  EXPECT_TRUE(late.at(3).waits);
  EXPECT_EQ(late.at(3).since, 100 * kSecond);
}

TEST(LateTimersTest, WhoseSignalIsTakenIsCertain) {
  Process process;
  pb::posix_timer_entry& timer = process.add_timer(0);
  timer.set_overrun(3), timer.set_it_sigev_notify(SIGEV_THREAD_ID), timer.set_notify_thread_id(7);
  EXPECT_EQ(process.plan(kSecond).size(), 1u);
  queue(process.shared(), 0, 0, SI_USER);
  EXPECT_TRUE(process.plan(kSecond).empty());
}

TEST(LateTimersTest, ProgramsOfOverrunsAreForWhoGetsTheSignal) {
  Process process;
  process.add_timer(0).set_overrun(3);
  pb::posix_timer_entry& of_thread = process.add_timer(1);
  of_thread.set_overrun(3), of_thread.set_it_sigev_notify(SIGEV_THREAD_ID), of_thread.set_notify_thread_id(7);
  const auto& timers = process.leader.tc().timers();
  const LateTimers late = process.plan(100 * kSecond);
  parasite::Program of_process, of_seven, of_eight;
  append_overruns(of_process, timers, late, 6, true);
  append_overruns(of_seven, timers, late, 7, false);
  append_overruns(of_eight, timers, late, 8, false);
  EXPECT_EQ(of_process.print(),
            "0: timer_settime(0, 1, data+0x0)  ; start timer 0 late\n"
            "1: nanosleep(data+0x20)  ; wait until it has expired\n"
            "2: rt_sigtimedwait(data+0x30, 0, data+0x38, 8) = 0x28  ; take the signal of timer 0\n");
  EXPECT_EQ(of_seven.op_count(), 3u);
  parasite::Program of_cpu_time;
  append_late_start(of_cpu_time, 0, CLOCK_PROCESS_CPUTIME_ID, {}, 1);
  EXPECT_EQ(of_cpu_time.op_count(), 3u);
  EXPECT_TRUE(of_eight.empty());
}

TEST(WaitingTimersTest, OnlySignalsOfTimersAreTakenAndOnlyWhereNothingIsLost) {
  Process process;
  process.add_timer(0);
  process.add_timer(1);
  const auto& timers = process.leader.tc().timers();
  EXPECT_TRUE(find_waiting_timers(process.queues(), timers).empty());
  queue(process.shared(), 1);
  queue(process.shared(), 0);
  const auto found = find_waiting_timers(process.queues(), timers);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].queue, 0u);
  EXPECT_EQ(found[0].signal, kSignal);
  ASSERT_EQ(found[0].timers.size(), 2u);
  EXPECT_EQ(found[0].timers[0]->it_id(), 1u);

  process.leader.mutable_tc()->mutable_timers()->mutable_posix(0)->set_overrun(1);
  EXPECT_TRUE(find_waiting_timers(process.queues(), timers).empty());
  process.leader.mutable_tc()->mutable_timers()->mutable_posix(0)->set_overrun(0);
  queue(*process.queues()[2], 0, 0, SI_USER);  // of the thread, and not of a timer
  EXPECT_TRUE(find_waiting_timers(process.queues(), timers).empty());
}

TEST(WaitingTimersTest, TwoSignalsOfOneTimerAreLeftAlone) {
  Process process;
  process.add_timer(0);
  queue(process.shared(), 0);
  queue(process.shared(), 0);
  EXPECT_TRUE(find_waiting_timers(process.queues(), process.leader.tc().timers()).empty());
}

TEST(WaitingTimersTest, ATimerThatExpiresAgainHasOverrun) {
  const auto sent = [](int timer, int overruns, int code = SI_TIMER) {
    siginfo_t info{};
    info.si_signo = kSignal, info.si_code = code, info.si_timerid = timer, info.si_overrun = overruns;
    return info;
  };
  std::vector<siginfo_t> taken{sent(1, 7), sent(0, -1), sent(2, INT32_MAX - 1)};
  EXPECT_TRUE(add_expiry(taken, sent(1, 0)));
  EXPECT_TRUE(add_expiry(taken, sent(0, 2)));
  EXPECT_TRUE(add_expiry(taken, sent(2, 5)));
  EXPECT_FALSE(add_expiry(taken, sent(3, 0)));
  EXPECT_FALSE(add_expiry(taken, sent(1, 0, SI_USER)));
  EXPECT_EQ(taken[0].si_overrun, 8);
  EXPECT_EQ(taken[1].si_overrun, 3);
  EXPECT_EQ(taken[2].si_overrun, INT32_MAX);
}

TEST(ExpiredTimersTest, WhoseSignalHasComeMeanwhileHasNothingLeft) {
  Process process;
  pb::task_timers_entry& timers = *process.leader.mutable_tc()->mutable_timers();
  for (auto* timer : {timers.mutable_real(), timers.mutable_virt(), timers.mutable_prof()})
    timer->set_isec(0), timer->set_iusec(0), timer->set_vsec(1), timer->set_vusec(1);
  timers.mutable_prof()->set_isec(1);
  for (std::uint32_t id = 0; id < 4; ++id) process.add_timer(id);
  for (const int id : {0, 1}) timers.mutable_posix(id)->set_isec(0);
  queue(process.shared(), 0);  // and it was set anew
  const TimerSignals before = timer_signals(process.queues(), timers);
  for (const int id : {1, 2}) queue(*process.queues()[2], id);
  for (const int signal : {SIGALRM, SIGPROF}) {
    siginfo_t info{};
    info.si_signo = signal, info.si_code = SI_KERNEL;
    process.shared().add_signals()->set_siginfo(&info, sizeof info);
  }
  const auto again = mark_expired(before, timer_signals(process.queues(), timers), timers);
  EXPECT_EQ(timers.posix(0).vsec(), 4u);
  EXPECT_EQ(timers.posix(1).vsec(), 0u);
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0]->it_id(), 2u);
  EXPECT_EQ(timers.posix(3).vsec(), 4u);
  EXPECT_EQ(timers.real().vsec() + timers.real().vusec(), 0u);
  EXPECT_EQ(timers.virt().vsec(), 1u);
  EXPECT_EQ(timers.prof().vsec(), 1u);
}

}  // namespace
}  // namespace dormouse::engine
