#include "engine/task/signals.h"

#include <gtest/gtest.h>

#include <cstring>

#include "images/schema/task.pb.h"

namespace dormouse::engine {
namespace {

pb::task_core_entry default_actions() {
  pb::task_core_entry core;
  for (int i = 0; i < 62; ++i) {
    pb::sa_entry& action = *core.add_sigactions();
    action.set_sigaction(0), action.set_flags(0), action.set_restorer(0), action.set_mask(0);
  }
  return core;
}

pb::siginfo_entry queued(int number) {
  siginfo_t info{};
  info.si_signo = number;
  info.si_code = SI_QUEUE;
  pb::siginfo_entry entry;
  entry.set_siginfo(&info, sizeof info);
  return entry;
}

TEST(SignalsTest, ActionsAreInTheOrderOfTheirNumbersWithoutTheTwoThatHaveNone) {
  const pb::task_core_entry core = default_actions();
  parasite::Program program;
  ASSERT_TRUE(append_signal_actions(program, core));
  ASSERT_EQ(program.op_count(), 63u);
  EXPECT_EQ(program.label(1 + 7), "signal action of SIGFPE");
  EXPECT_EQ(program.label(1 + 8), "signal action of SIGUSR1");   // SIGKILL is left out
  EXPECT_EQ(program.label(1 + 16), "signal action of SIGCONT");
  EXPECT_EQ(program.label(1 + 17), "signal action of SIGTSTP");  // SIGSTOP is left out
  EXPECT_EQ(program.label(1 + 61), "signal action of real-time signal 64");
  // Before anything else: what the birth of the children left behind goes.
  EXPECT_EQ(program.print().substr(0, program.print().find('\n')),
            "0: rt_sigaction(17, data+0x0, 0, 8)  ; discard SIGCHLD");
}

TEST(SignalsTest, AsManyActionsAsThereAreSignals) {
  pb::task_core_entry core = default_actions();
  core.mutable_sigactions()->RemoveLast();
  parasite::Program program;
  EXPECT_EQ(append_signal_actions(program, core).error().kind(), Error::Kind::kCorruptImage);
}

TEST(SignalsTest, ActionsOf32BitCodeAreSetAs32BitCodeDoes) {
  pb::task_core_entry core = default_actions();
  core.mutable_sigactions(13)->set_compat_sigaction(true);
  parasite::Program program;
  ASSERT_TRUE(append_signal_actions(program, core));
  EXPECT_NE(program.print().find("32-bit rt_sigaction(15, data+"), std::string::npos);
  EXPECT_NE(program.print().find(", 0, 8)  ; signal action of SIGTERM"), std::string::npos);
  core.mutable_sigactions(13)->set_sigaction(0x1'0000'1000);
  parasite::Program none;
  EXPECT_EQ(append_signal_actions(none, core).error().kind(), Error::Kind::kCorruptImage);
}

TEST(SignalsTest, WhatWaitsWithoutAPlaceInTheQueueIsFromNobody) {
  siginfo_t term{};
  term.si_signo = SIGTERM, term.si_code = SI_QUEUE;
  const auto bit = [](int number) { return std::uint64_t{1} << (number - 1); };
  const auto all = with_unqueued({term, term}, bit(SIGTERM) | bit(SIGHUP) | bit(SIGKILL) | bit(SIGSTOP) | bit(64));
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[2].si_signo, SIGHUP);
  EXPECT_EQ(all[2].si_code, SI_USER);
  EXPECT_EQ(all[2].si_pid, 0);
  EXPECT_EQ(all[3].si_signo, 64);
  EXPECT_TRUE(with_unqueued({}, 0).empty());
}

TEST(SignalsTest, QueuedSignalsAreSentToOneself) {
  pb::signal_queue_entry queue;
  *queue.add_signals() = queued(SIGUSR1);
  *queue.add_signals() = queued(SIGKILL);
  parasite::Program shared, own;
  ASSERT_TRUE(append_queue(shared, queue, QueueOf::kProcess));
  EXPECT_EQ(shared.print(),
            "0: getpid()\n"
            "1: gettid()\n"
            "2: rt_sigqueueinfo(result#0, 10, data+0x0)  ; queue SIGUSR1\n");
  ASSERT_TRUE(append_queue(own, queue, QueueOf::kThread));
  EXPECT_EQ(own.print(),
            "0: getpid()\n"
            "1: gettid()\n"
            "2: rt_tgsigqueueinfo(result#0, result#1, 10, data+0x0)  ; queue SIGUSR1\n");
}

TEST(SignalsTest, DamagedQueuesAreNamed) {
  pb::signal_queue_entry queue;
  queue.add_signals()->set_siginfo("short");
  parasite::Program program;
  EXPECT_EQ(append_queue(program, queue, QueueOf::kThread).error().kind(), Error::Kind::kCorruptImage);
  *queue.mutable_signals(0) = queued(65);
  EXPECT_EQ(append_queue(program, queue, QueueOf::kThread).error().kind(), Error::Kind::kCorruptImage);
}

TEST(SignalsTest, OnlyFlagsThatCanBeSetAreGivenToSigaltstack) {
  pb::thread_sas_entry sas;
  sas.set_ss_sp(0x1000), sas.set_ss_size(0x2000), sas.set_ss_flags(SS_ONSTACK | (1u << 31));
  parasite::Program program;
  append_alternate_stack(program, sas);
  std::vector<std::byte> placed(program.size_bytes());
  program.place(placed, 0);
  stack_t stack;
  std::memcpy(&stack, placed.data() + program.data_offset(), sizeof stack);
  EXPECT_EQ(static_cast<std::uint32_t>(stack.ss_flags), 1u << 31);
  EXPECT_EQ(stack.ss_size, 0x2000u);
}

}  // namespace
}  // namespace dormouse::engine
