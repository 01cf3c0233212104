#include "engine/plan/family.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>

#include "engine/plan/groups.h"

namespace dormouse::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::uint32_t kAlive = 1, kDead = 2, kStopped = 3;

class PlanFamily : public testing::Test {
 protected:
  struct Numbers {
    std::uint32_t pid, ppid, pgid, sid;
  };
  ImageTask& add(Numbers numbers, std::uint32_t state = kAlive) {
    ImageTask& task = image_.tasks.emplace_back();
    task.tree.set_pid(numbers.pid);
    task.tree.set_ppid(numbers.ppid);
    task.tree.set_pgid(numbers.pgid);
    task.tree.set_sid(numbers.sid);
    task.tree.add_threads(numbers.pid);
    task.core.mutable_tc()->set_task_state(state);
    // Everything of its own.
    task.ids.set_vm_id(1000 + numbers.pid);
    task.ids.set_files_id(1000 + numbers.pid);
    task.ids.set_fs_id(1000 + numbers.pid);
    task.ids.set_sighand_id(1000 + numbers.pid);
    return task;
  }
  Family plan() {
    auto planned = plan_family(image_, false);
    EXPECT_TRUE(planned) << planned.error().message();
    return planned ? std::move(*planned) : Family{};
  }
  std::string refusal() {
    const auto planned = plan_family(image_, false);
    return planned ? "planned" : planned.error().message();
  }

  Image image_;
};

TEST_F(PlanFamily, ChildrenAreBornOfTheirParents) {
  add({1, 0, 1, 1});
  add({2, 1, 1, 1});
  add({3, 2, 1, 1});
  const Family family = plan();
  EXPECT_THAT(family.members[0].children, ElementsAre(1));
  EXPECT_THAT(family.members[1].children, ElementsAre(2));
  EXPECT_TRUE(family.members[0].makes_session);
  EXPECT_TRUE(family.members[0].session_first);
  EXPECT_THAT(family.adoptions, IsEmpty());
  EXPECT_THAT(family.stand_ins, IsEmpty());
}

TEST_F(PlanFamily, ALeaderBearsChildrenOfTheOldSessionFirst) {
  add({1, 0, 1, 1});
  add({2, 1, 2, 2});
  add({3, 2, 1, 1});
  add({4, 2, 2, 2});
  const Family family = plan();
  EXPECT_FALSE(family.members[1].session_first);
  EXPECT_EQ(family.members[2].born, BornWhen::kEmpty);
  EXPECT_EQ(family.members[3].born, BornWhen::kInSession);
}

// 3 leads a session, and its child 4 is in the session of its grandparents' parent: all between are born there.
TEST_F(PlanFamily, LeadersAreBornWhereTheirChildrenNeedIt) {
  add({1, 0, 1, 1});
  add({2, 1, 2, 2});
  add({3, 2, 3, 3});
  add({4, 3, 1, 1});
  const Family family = plan();
  EXPECT_EQ(family.members[2].born, BornWhen::kEmpty);
  EXPECT_EQ(family.members[3].born, BornWhen::kEmpty);
  EXPECT_THAT(family.adoptions, IsEmpty());
}

TEST_F(PlanFamily, AnOrphanIsBornInTheSessionOfAMemberBelowWhoAdoptedIt) {
  add({1, 0, 1, 1});
  add({2, 1, 2, 2});
  add({3, 1, 2, 2});  // a child of 2's, once
  const Family family = plan();
  ASSERT_EQ(family.adoptions.size(), 1u);
  EXPECT_FALSE(family.adoptions[0].by_stand_in);
  EXPECT_EQ(family.adoptions[0].giver, 1u);
  EXPECT_EQ(family.adoptions[0].parent, 0u);
  EXPECT_THAT(family.adoptions[0].children, ElementsAre(2));
  EXPECT_EQ(family.members[2].born, BornWhen::kAdopted);
  EXPECT_THAT(family.stand_ins, IsEmpty());
}

TEST_F(PlanFamily, ADeadLeaderHasAStandInBelowTheLowestOfThoseWhoAdopted) {
  add({1, 0, 1, 1});
  add({2, 1, 1, 1});
  add({4, 1, 9, 9});
  add({5, 2, 9, 9});
  const Family family = plan();
  ASSERT_EQ(family.stand_ins.size(), 1u);
  EXPECT_EQ(family.stand_ins[0].pid, 9u);
  EXPECT_TRUE(family.stand_ins[0].leads_session);
  EXPECT_EQ(family.stand_ins[0].parent, 1u);
  ASSERT_EQ(family.adoptions.size(), 2u);
  EXPECT_TRUE(family.adoptions[0].by_stand_in);
}

// 3 was below 2 then: both have adopted of session 9.
TEST_F(PlanFamily, AdoptersWereAncestorsOfEachOther) {
  add({1, 0, 1, 1});
  add({2, 1, 1, 1});
  add({3, 1, 1, 1});
  add({4, 2, 9, 9});
  add({5, 3, 9, 9});
  const Family family = plan();
  ASSERT_EQ(family.stand_ins.size(), 1u);
  EXPECT_EQ(family.stand_ins[0].parent, 2u);
  ASSERT_EQ(family.adoptions.size(), 3u);
  EXPECT_EQ(family.adoptions[0].giver, 1u);
  EXPECT_EQ(family.adoptions[0].parent, 0u);
  EXPECT_THAT(family.adoptions[0].children, ElementsAre(2));
}

// 3 was below 2, which has adopted 4 from it, and moved up then.
TEST_F(PlanFamily, ALeaderThatMovedAwayIsBornBelowThoseWhoAdoptedFromIt) {
  add({1, 0, 1, 1});
  add({2, 1, 1, 1});
  add({3, 1, 3, 3});
  add({4, 2, 3, 3});
  const Family family = plan();
  ASSERT_EQ(family.adoptions.size(), 2u);
  EXPECT_EQ(family.adoptions[0].giver, 1u);
  EXPECT_EQ(family.adoptions[0].parent, 0u);
  EXPECT_THAT(family.adoptions[0].children, ElementsAre(2));
  EXPECT_EQ(family.adoptions[1].giver, 2u);
  EXPECT_EQ(family.adoptions[1].parent, 1u);
  EXPECT_THAT(family.adoptions[1].children, ElementsAre(3));
  EXPECT_THAT(family.stand_ins, IsEmpty());
}

// 5 was below 3, before which it was born into the session of 2, as its child 6 was; 7 is left to 3.
TEST_F(PlanFamily, AMidwifeIsBornBeforeItsGiverLeads) {
  add({1, 0, 1, 1});
  add({2, 1, 2, 2});
  add({3, 2, 3, 3});
  add({5, 1, 5, 5});
  add({6, 5, 2, 2});
  add({7, 3, 5, 5});
  const Family family = plan();
  ASSERT_EQ(family.adoptions.size(), 2u);
  EXPECT_TRUE(family.adoptions[0].early);
  EXPECT_EQ(family.adoptions[0].giver, 2u);
  EXPECT_THAT(family.adoptions[0].children, ElementsAre(3));
  EXPECT_FALSE(family.members[2].session_first);
  EXPECT_THAT(family.members[2].early_midwives, ElementsAre(0));
  EXPECT_EQ(family.members[4].born, BornWhen::kEmpty);
  EXPECT_FALSE(family.adoptions[1].early);
}

// 2 is the younger one of the leaders, as numbers began anew: it was born below 9, which has adopted 4 from it.
TEST_F(PlanFamily, SessionsDecideAgainstNumbers) {
  add({1, 0, 1, 1});
  add({8, 1, 8, 8});
  add({9, 8, 8, 8});
  add({2, 1, 2, 2});
  add({4, 9, 2, 2});
  const Family family = plan();
  ASSERT_EQ(family.adoptions.size(), 2u);
  EXPECT_EQ(family.adoptions[0].giver, 2u);
  EXPECT_THAT(family.adoptions[0].children, ElementsAre(3));
  EXPECT_EQ(family.adoptions[1].giver, 3u);
  EXPECT_THAT(family.adoptions[1].children, ElementsAre(4));
}

TEST_F(PlanFamily, WhoWasInTwoOldSessionsIsRefused) {
  add({1, 0, 1, 1});
  add({2, 1, 2, 2});
  add({3, 2, 3, 3});
  add({4, 3, 1, 1});
  add({5, 3, 2, 2});
  EXPECT_THAT(refusal(), HasSubstr("no history"));
}

TEST_F(PlanFamily, ASessionWithTheNumberOfAnotherTaskIsRefused) {
  add({1, 0, 1, 1});
  add({2, 1, 1, 1});
  add({3, 1, 2, 2});
  EXPECT_THAT(refusal(), HasSubstr("does not lead"));
}

// 4 was below 2 when it bore the leader of session 9, of which 3 is left to 2; then it was adopted by 1.
TEST_F(PlanFamily, WhoMovedUpLaterIsBornBelowThoseWhoAdoptedFromIt) {
  add({1, 0, 1, 1});
  add({2, 1, 2, 2});
  add({3, 2, 9, 9});
  add({4, 1, 2, 2});
  add({5, 4, 9, 9});
  const Family family = plan();
  ASSERT_EQ(family.stand_ins.size(), 1u);
  EXPECT_EQ(family.stand_ins[0].parent, 3u);
  ASSERT_EQ(family.adoptions.size(), 3u);
  EXPECT_EQ(family.adoptions[0].parent, 0u);  // ends last
}

// 69 was born of 68 and bore 70 and 72; 74 was born of 72, which was below 68 then, and bore 75 and 77.
TEST_F(PlanFamily, NobodyIsBornIntoTheSessionOfSomebodyYounger) {
  add({66, 0, 66, 66});
  add({67, 66, 67, 67});
  add({68, 67, 68, 68});
  add({72, 67, 72, 72});
  add({70, 68, 69, 69});
  add({77, 68, 74, 74});
  add({73, 72, 69, 69});
  add({75, 72, 74, 74});
  const Family family = plan();
  ASSERT_EQ(family.stand_ins.size(), 2u);
  EXPECT_EQ(family.stand_ins[0].pid, 69u);
  EXPECT_EQ(family.stand_ins[0].parent, 2u);
  EXPECT_EQ(family.stand_ins[1].pid, 74u);
  EXPECT_EQ(family.stand_ins[1].parent, 3u);
  EXPECT_EQ(family.members[6].born, BornWhen::kEmpty);  // before 72 leads
}

// Both were born of a leader, by CLONE_PARENT: so they have the signal it has, and orphans have not.
TEST_F(PlanFamily, SiblingsBearWhoTellsByAnotherSignal) {
  add({1, 0, 1, 1});
  add({2, 1, 2, 2});
  add({3, 1, 2, 2});
  add({5, 1, 4, 4});
  for (const std::uint32_t pid : {2, 3, 5}) image_.exit_signals[pid] = SIGUSR1;
  const Family family = plan();
  ASSERT_EQ(family.adoptions.size(), 2u);
  EXPECT_TRUE(family.adoptions[0].as_siblings);
  EXPECT_EQ(family.adoptions[0].giver, 1u);
  EXPECT_TRUE(family.adoptions[1].as_siblings);
  EXPECT_TRUE(family.adoptions[1].by_stand_in);
  ASSERT_EQ(family.stand_ins.size(), 1u);
  EXPECT_EQ(family.stand_ins[0].exit_signal, SIGUSR1);
}

TEST_F(PlanFamily, AGroupWithoutLeaderHasAStandInOfItsSession) {
  add({1, 0, 1, 1});
  add({2, 1, 2, 2});
  add({3, 2, 8, 2});
  const Family family = plan();
  ASSERT_EQ(family.stand_ins.size(), 1u);
  EXPECT_FALSE(family.stand_ins[0].leads_session);
  EXPECT_EQ(family.stand_ins[0].parent, 1u);
  EXPECT_TRUE(family.members[2].joins_group);
}

TEST_F(PlanFamily, ALeaderMakesItsGroupBeforeItLeavesIt) {
  add({1, 0, 1, 1});
  add({2, 1, 3, 1});
  add({3, 1, 2, 1});
  const Family family = plan();
  for (const std::size_t i : {1u, 2u}) {
    EXPECT_TRUE(family.members[i].makes_group);
    EXPECT_TRUE(family.members[i].joins_group);
  }
}

TEST_F(PlanFamily, GroupsOfOtherSessionsAreRefused) {
  add({1, 0, 1, 1});
  add({2, 1, 2, 2});
  add({3, 1, 2, 1});
  EXPECT_THAT(refusal(), HasSubstr("is in another session"));
}

TEST_F(PlanFamily, ASessionLeaderOutsideItsGroupIsRefused) {
  add({1, 0, 1, 1});
  add({2, 1, 1, 2});
  EXPECT_THAT(refusal(), HasSubstr("not its process group"));
}

TEST_F(PlanFamily, SharingIsInheritedFromTheParent) {
  add({1, 0, 1, 1});
  add({2, 1, 1, 1}).ids.set_files_id(1001);
  const Family family = plan();
  EXPECT_EQ(family.members[1].shares, std::uint64_t{CLONE_FILES});
  EXPECT_FALSE(family.members[1].owns & CLONE_FILES);
  EXPECT_TRUE(family.members[1].owns & CLONE_VM);
}

TEST_F(PlanFamily, BrothersWhoShareAreBornOneOfTheOther) {
  add({1, 0, 1, 1});
  add({2, 1, 1, 1});
  add({3, 1, 1, 1}).ids.set_fs_id(1002);
  const Family family = plan();
  ASSERT_EQ(family.adoptions.size(), 1u);
  EXPECT_EQ(family.adoptions[0].giver, 1u);
  EXPECT_EQ(family.adoptions[0].shares, std::uint64_t{CLONE_FS});
  EXPECT_EQ(family.members[2].shares, std::uint64_t{CLONE_FS});
}

TEST_F(PlanFamily, CousinsWhoShareAreRefused) {
  add({1, 0, 1, 1});
  add({2, 1, 1, 1});
  add({3, 1, 1, 1});
  add({4, 2, 1, 1});
  add({5, 3, 1, 1}).ids.set_files_id(1004);
  EXPECT_THAT(refusal(), HasSubstr("shares memory, descriptors or directories"));
}

TEST_F(PlanFamily, HandlersWithoutMemoryAreRefused) {
  add({1, 0, 1, 1});
  add({2, 1, 1, 1}).ids.set_sighand_id(1001);
  EXPECT_THAT(refusal(), HasSubstr("signal handlers, but not memory"));
}

TEST_F(PlanFamily, ZombiesShareNothingAndMayLead) {
  add({1, 0, 1, 1});
  add({2, 1, 2, 2}, kDead);
  add({3, 1, 2, 2});
  const Family family = plan();
  EXPECT_TRUE(family.members[1].makes_session);
  ASSERT_EQ(family.adoptions.size(), 1u);
  EXPECT_EQ(family.adoptions[0].giver, 1u);
}

TEST_F(PlanFamily, ARootInAForeignSessionNeedsLeave) {
  add({10, 0, 7, 6});
  add({11, 10, 7, 6});
  EXPECT_THAT(refusal(), HasSubstr("--shell-job"));
  const auto planned = plan_family(image_, true);
  ASSERT_TRUE(planned) << planned.error().message();
  for (const FamilyMember& member : planned->members) EXPECT_FALSE(member.joins_group);
}

// A terminal's signal stops a task only where it would: otherwise SIGSTOP does.
class StopSignals : public PlanFamily {
 protected:
  void SetUp() override {
    add({1, 0, 1, 1});
    ImageTask& task = add({2, 1, 2, 1}, kStopped);
    task.core.mutable_tc()->set_stop_signo(SIGTSTP);
    for (int i = 0; i < 62; ++i) task.core.mutable_tc()->add_sigactions()->set_sigaction(0);
  }
  pb::task_core_entry& core() { return *image_.tasks[1].core.mutable_tc(); }
  int signal() const { return stop_signal_of(image_, image_.tasks[1]); }
};

TEST_F(StopSignals, StopAsBefore) { EXPECT_EQ(signal(), SIGTSTP); }
TEST_F(StopSignals, AreSigstopIfHandled) {
  core().mutable_sigactions(SIGTSTP - 3)->set_sigaction(0x1234);  // two signals before it have no action
  EXPECT_EQ(signal(), SIGSTOP);
}
TEST_F(StopSignals, AreSigstopIfBlocked) {
  core().set_blk_sigset(std::uint64_t{1} << (SIGTSTP - 1));
  EXPECT_EQ(signal(), SIGSTOP);
}
TEST_F(StopSignals, AreSigstopInOrphanedGroups) {
  image_.tasks[1].tree.set_pgid(1);
  EXPECT_EQ(signal(), SIGSTOP);
}
TEST_F(StopSignals, AreSigstopIfTheImageNamesAnother) {
  core().set_stop_signo(SIGKILL);
  EXPECT_EQ(signal(), SIGSTOP);
}

}  // namespace
}  // namespace dormouse::engine
