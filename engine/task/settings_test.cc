#include "engine/task/settings.h"

#include <gtest/gtest.h>
#include <sys/personality.h>

#include "engine/task/limits.h"
#include "engine/task/scheduling.h"
#include "images/schema/memory.pb.h"
#include "images/schema/task.pb.h"

namespace dormouse::engine {
namespace {

TEST(SettingsTest, PersonalitiesOfTheReferenceAreReadAsTheyWereMeant) {
  EXPECT_EQ(personality_of(0), 0u);
  EXPECT_EQ(personality_of(PER_LINUX32), static_cast<std::uint32_t>(PER_LINUX32));
  EXPECT_EQ(personality_of(ADDR_NO_RANDOMIZE), static_cast<std::uint32_t>(ADDR_NO_RANDOMIZE));
  EXPECT_EQ(personality_of(40000), static_cast<std::uint32_t>(ADDR_NO_RANDOMIZE));  // "00040000"
  EXPECT_EQ(personality_of(440000), static_cast<std::uint32_t>(ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC));
  EXPECT_EQ(personality_of(40008), 0x40008u);
}

TEST(SettingsTest, OnlyWhatIsSetIsRestored) {
  pb::task_core_entry process;
  process.set_child_subreaper(false);
  parasite::Program plain;
  append_process_settings(plain, process, false);
  EXPECT_EQ(plain.print(), "0: prctl(36)  ; child subreaper\n");
  process.set_membarrier_registration_mask(0x14);
  parasite::Program full;
  append_process_settings(full, process, true);
  EXPECT_EQ(full.print(),
            "0: prctl(36)  ; child subreaper\n"
            "1: prctl(41, 1)  ; no huge pages\n"
            "2: membarrier(4)  ; memory barrier registration 0x4\n"
            "3: membarrier(16)  ; memory barrier registration 0x10\n");
}

TEST(SettingsTest, TheRobustListOf32BitCodeIsAnother) {
  pb::task_core_entry process;
  pb::core_entry core;
  core.mutable_thread_core()->set_futex_rla(0x8100000);
  core.mutable_thread_core()->set_futex_rla_len(12);
  core.mutable_thread_info()->mutable_gpregs()->set_mode(pb::COMPAT);
  parasite::Program program;
  ASSERT_TRUE(append_thread_settings(program, process, core));
  EXPECT_NE(program.print().find("32-bit set_robust_list(0x8100000, 12)  ; robust futex list"), std::string::npos);
}

TEST(SettingsTest, ADumpableOfTwoBecomesNone) {
  pb::mm_entry mm;
  for (const auto& [stored, set] : {std::pair{0, "prctl(4)"}, {1, "prctl(4, 1)"}, {2, "prctl(4)"}}) {
    mm.set_dumpable(stored);
    parasite::Program program;
    append_late_settings(program, &mm, 9);
    EXPECT_EQ(program.print(), std::string("0: ") + set + "  ; dumpable\n1: prctl(1, 9)  ; parent death signal\n");
  }
}

TEST(SchedulingTest, ADeadlineIsNoPolicyOfTheFormat) {
  pb::thread_core_entry core;
  abi::SchedAttr attr;
  attr.policy = 6, attr.flags = abi::kSchedFlagResetOnFork;
  save_scheduling(attr, attr.nice, core);
  EXPECT_EQ(core.sched_policy(), 0x40000000u);
}

TEST(SchedulingTest, APriorityIsStoredOnlyWhereItMeansSomething) {
  pb::thread_core_entry core;
  abi::SchedAttr attr;
  attr.policy = 3, attr.nice = -7, attr.flags = abi::kSchedFlagResetOnFork;
  save_scheduling(attr, attr.nice, core);
  EXPECT_FALSE(core.has_sched_prio());
  EXPECT_EQ(core.sched_policy(), 0x40000003u);
  parasite::Program program;
  append_scheduling(program, core);
  EXPECT_EQ(program.print(),
            "0: setpriority(0, 0, -7)  ; nice value -7 (CAP_SYS_NICE)\n"
            "1: sched_setscheduler(0, 0x40000003, data+0x0)  ; scheduling policy 1073741827 with priority 0 "
            "(CAP_SYS_NICE)\n");
}

TEST(LimitsTest, AllAreStoredInTheOrderOfTheirNumbers) {
  Limits limits;
  for (std::size_t i = 0; i < limits.size(); ++i) limits[i] = {i, i + 100};
  pb::task_rlimits_entry entry;
  save_limits(limits, entry);
  ASSERT_EQ(entry.rlimits_size(), 16);
  EXPECT_EQ(entry.rlimits(7).cur(), 7u);
  EXPECT_EQ(entry.rlimits(7).max(), 107u);
  EXPECT_EQ(limit_name(7), "RLIMIT_NOFILE");
}

}  // namespace
}  // namespace dormouse::engine
