#include "engine/task/timers.h"

#include <gtest/gtest.h>
#include <sys/time.h>
#include <time.h>

#include <cstring>

#include "images/schema/timers.pb.h"

namespace dormouse::engine {
namespace {

pb::task_timers_entry no_timers() {
  pb::task_timers_entry timers;
  for (auto* timer : {timers.mutable_real(), timers.mutable_virt(), timers.mutable_prof()})
    timer->set_isec(0), timer->set_iusec(0), timer->set_vsec(0), timer->set_vusec(0);
  return timers;
}

pb::posix_timer_entry& add_timer(pb::task_timers_entry& timers, std::uint32_t id) {
  pb::posix_timer_entry& timer = *timers.add_posix();
  timer.set_it_id(id), timer.set_clock_id(1), timer.set_si_signo(14), timer.set_it_sigev_notify(0);
  timer.set_sival_ptr(0), timer.set_overrun(0);
  timer.set_isec(0), timer.set_insec(0), timer.set_vsec(0), timer.set_vnsec(0);
  return timer;
}

template <class T>
T data_of(const parasite::Program& program, std::size_t offset = 0) {
  std::vector<std::byte> placed(program.size_bytes());
  program.place(placed, 0);
  T value;
  std::memcpy(&value, placed.data() + program.data_offset() + offset, sizeof value);
  return value;
}

TEST(TaskTimersTest, NothingRunningNothingToDo) {
  parasite::Program program;
  ASSERT_TRUE(append_timer_creation(program, no_timers(), true));
  ASSERT_TRUE(append_timer_start(program, no_timers()));
  EXPECT_TRUE(program.empty());
}

TEST(TaskTimersTest, WhatADeletedTimerSentIsLeftOut) {
  const auto sent = [](int code, int timer) {
    siginfo_t info{};
    info.si_signo = SIGALRM, info.si_code = code, info.si_timerid = timer;
    return info;
  };
  proc::PosixTimer timer;
  timer.id = 3;
  const auto left = without_deleted_timers({sent(SI_TIMER, 2), sent(SI_TIMER, 3), sent(SI_QUEUE, 2)}, {&timer, 1});
  ASSERT_EQ(left.size(), 2u);
  EXPECT_EQ(left[0].si_timerid, 3);
  EXPECT_EQ(left[1].si_code, SI_QUEUE);
}

TEST(TaskTimersTest, IdsAreChosenWhereTheKernelLetsOne) {
  pb::task_timers_entry timers = no_timers();
  add_timer(timers, 100000);
  add_timer(timers, 7);
  parasite::Program program;
  ASSERT_TRUE(append_timer_creation(program, timers, true));
  EXPECT_EQ(program.print(),
            "0: prctl(77, 1)  ; let timer ids be chosen\n"
            "1: timer_create(1, data+0x8, data+0x0)  ; create timer 7\n"
            "2: timer_create(1, data+0x50, data+0x48)  ; create timer 100000\n"
            "3: prctl(77)  ; timer ids by count again\n");
}

TEST(TaskTimersTest, ElsewhereIdsAreCountedUp) {
  pb::task_timers_entry timers = no_timers();
  add_timer(timers, 0);
  add_timer(timers, 2);
  parasite::Program program;
  ASSERT_TRUE(append_timer_creation(program, timers, false));
  ASSERT_EQ(program.op_count(), 6u);
  EXPECT_EQ(program.label(0), "create timer 0");
  EXPECT_EQ(program.label(2), "skip a timer id");
  EXPECT_EQ(program.label(4), "create timer 2");
  EXPECT_EQ(program.label(5), "create timer 2 with that id");

  add_timer(timers, 100000);
  parasite::Program endless;
  const Result<> refused = append_timer_creation(endless, timers, false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "timer 100000: its id cannot be had on this kernel (Linux 6.15 can)");
}

TEST(TaskTimersTest, ARepeatingTimerThatHadJustFiredStartsItsPeriodAnew) {
  pb::task_timers_entry timers = no_timers();
  timers.mutable_real()->set_isec(3);
  pb::posix_timer_entry& timer = add_timer(timers, 0);
  timer.set_isec(5);
  parasite::Program program;
  ASSERT_TRUE(append_timer_start(program, timers));
  EXPECT_EQ(program.print(),
            "0: setitimer(0, data+0x0)  ; start the real interval timer\n"
            "1: timer_settime(0, 0, data+0x20)  ; start timer 0\n");
  EXPECT_EQ(data_of<itimerval>(program).it_value.tv_sec, 3);
  EXPECT_EQ(data_of<itimerspec>(program, 0x20).it_value.tv_sec, 5);
}

TEST(TaskTimersTest, ImpossibleTimesAndIdsAreNamed) {
  pb::task_timers_entry timers = no_timers();
  timers.mutable_virt()->set_vusec(1'000'000);
  parasite::Program program;
  const Result<> refused = append_timer_start(program, timers);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind(), Error::Kind::kCorruptImage);
  EXPECT_EQ(refused.error().object(), "virtual interval timer");
  timers = no_timers();
  add_timer(timers, 4);
  add_timer(timers, 4);
  EXPECT_EQ(append_timer_creation(program, timers, true).error().kind(), Error::Kind::kCorruptImage);
}

TEST(TaskTimersTest, ATimerOfAThreadsTimeIsThatOfTheThreadItSignals) {
  Task task;
  task.pid = 100, task.ns_pid = 1;
  task.threads = {{100, 1}, {105, 6}};
  proc::PosixTimer timer;
  timer.id = 3, timer.clock_id = -2, timer.notify = SIGEV_THREAD_ID, timer.notified = 105;
  const std::vector<proc::PosixTimer> timers = {timer};
  const auto save = [&](std::vector<proc::PosixTimer> all, pb::task_timers_entry& to) {
    parasite::Program program;
    const TimersAsked asked = ask_timers(program, all);
    std::vector<std::byte> memory(program.size_bytes());
    program.place(memory, 0);
    return save_timers(parasite::Placed(&program, memory.data(), 0), asked, task, to);
  };
  pb::task_timers_entry to;
  ASSERT_TRUE(save(timers, to));
  EXPECT_EQ(to.posix(0).clock_id(), static_cast<std::uint32_t>(~6 * 8 | 6));  // of thread 6
  EXPECT_EQ(to.posix(0).notify_thread_id(), 6u);
  timer.notify = SIGEV_SIGNAL, timer.notified = 100;
  pb::task_timers_entry of_nobody, of_the_only_one;
  EXPECT_EQ(save({timer}, of_nobody).error().kind(), Error::Kind::kUnsupported);
  task.threads.pop_back();
  ASSERT_TRUE(save({timer}, of_the_only_one));
  EXPECT_EQ(of_the_only_one.posix(0).clock_id(), static_cast<std::uint32_t>(-2));
}

}  // namespace
}  // namespace dormouse::engine
