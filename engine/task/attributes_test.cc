#include "engine/task/attributes.h"

#include <gtest/gtest.h>

#include "engine/task/audit.h"
#include "images/schema/attributes.pb.h"
#include "kernel/scheduling.h"

namespace dormouse::engine {
namespace {

using parasite::Program;

TEST(CpuSets, ListsAreReadAndCompared) {
  EXPECT_EQ(sys::parse_cpu_list("0-3,8\n").value(), std::string("\x0f\x01"));
  EXPECT_EQ(sys::parse_cpu_list("").value(), "");
  for (const char* nonsense : {"3-1", "a", "1-", "99999"}) EXPECT_FALSE(sys::parse_cpu_list(nonsense)) << nonsense;
  EXPECT_TRUE(sys::covers("\xff", "\x0f"));
  EXPECT_FALSE(sys::covers("\x0f", "\x10"));
  EXPECT_FALSE(sys::covers("\x0f", std::string("\x0f\x01")));
}

TEST(Attributes, WhatTheEngineHasTooIsNotTouched) {
  pb::thread_attributes_entry same;
  same.set_tid(7), same.set_timer_slack_ns(50000), same.set_mce_kill(2), same.set_tsc(1);
  Program program;
  ASSERT_TRUE(append_thread_attributes(program, same, same));
  append_process_attributes(program, same, same);
  EXPECT_TRUE(program.empty()) << program.print();
}

TEST(Attributes, WhatDiffersIsSet) {
  pb::thread_attributes_entry wanted, own;
  wanted.set_cpus("\x02");
  wanted.set_io_priority(abi::io_priority(abi::IoPriorityClass::kBestEffort, 7));
  wanted.set_timer_slack_ns(1);
  wanted.set_mce_kill(1);
  wanted.set_tsc(2);
  wanted.set_io_flusher(true);
  Program program;
  ASSERT_TRUE(append_thread_attributes(program, wanted, own));
  EXPECT_EQ(program.print(),
            "0: sched_setaffinity(0, 8, data+0x0) or errno 22  ; CPUs to run on\n"
            "1: ioprio_set(1, 0, 0x4007)  ; priority for input and output\n"
            "2: prctl(29, 1)  ; timer slack\n"
            "3: prctl(33, 1, 1)  ; what to do about damaged memory\n"
            "4: prctl(26, 2)  ; time stamp counter\n"
            "5: prctl(57, 1)  ; part of writing back (CAP_SYS_RESOURCE)\n");
}

TEST(Attributes, ABoundEngineSetsFreeThreadsFree) {
  pb::thread_attributes_entry wanted, own;
  own.set_cpus("\x01"), own.set_io_priority(abi::io_priority(abi::IoPriorityClass::kIdle, 0));
  Program program;
  ASSERT_TRUE(append_thread_attributes(program, wanted, own));
  EXPECT_EQ(program.print(),
            "0: sched_setaffinity(0, 128, data+0x0) or errno 22  ; CPUs to run on\n"
            "1: ioprio_set(1)  ; priority for input and output\n");
}

TEST(Attributes, ADeadlineComesLastAndWithoutABoundToCpus) {
  pb::thread_attributes_entry wanted, own;
  wanted.set_cpus("\x02");
  wanted.mutable_deadline()->set_runtime(1), wanted.mutable_deadline()->set_deadline(2);
  wanted.mutable_deadline()->set_period(3);
  Program program;
  ASSERT_TRUE(append_thread_attributes(program, wanted, own));
  EXPECT_EQ(program.print(), "0: sched_setattr(0, data+0x0)  ; scheduling by deadlines (CAP_SYS_NICE)\n");
}

TEST(Attributes, SpeculationIsSetWhereTheProcessorHasASwitch) {
  pb::thread_attributes_entry wanted, own;
  pb::speculation_entry& disabled = *wanted.add_speculation();
  disabled.set_which(0), disabled.set_state(1 | 4);
  Program without;
  ASSERT_TRUE(append_thread_attributes(without, wanted, own));
  EXPECT_TRUE(without.empty());
  pb::speculation_entry& enabled = *own.add_speculation();
  enabled.set_which(0), enabled.set_state(1 | 2);
  Program with;
  ASSERT_TRUE(append_thread_attributes(with, wanted, own));
  EXPECT_EQ(with.print(), "0: prctl(53, 0, 4)  ; speculation: store bypass\n");
  disabled.set_which(9), enabled.set_which(9);
  Program nonsense;
  EXPECT_EQ(append_thread_attributes(nonsense, wanted, own).error().kind(), Error::Kind::kCorruptImage);
}

TEST(Attributes, OfTheProcess) {
  pb::thread_attributes_entry wanted, own;
  wanted.set_thp_flags(2), wanted.set_memory_merge(true), wanted.set_mdwe(1);
  Program program;
  append_process_attributes(program, wanted, own);
  EXPECT_EQ(program.print(),
            "0: prctl(41, 1, 2)  ; exemptions from no huge pages\n"
            "1: prctl(67, 1)  ; merge equal pages\n"
            "2: prctl(65, 1)  ; no memory both written and executed\n");
}

TEST(Audit, ALoginIdIsWrittenWhereItDiffers) {
  Program same, other;
  append_login_uid(same, 1000, 1000);
  EXPECT_TRUE(same.empty());
  append_login_uid(other, 1000, kNoLoginUid);
  EXPECT_EQ(other.op_count(), 8u);
}

}  // namespace
}  // namespace dormouse::engine
