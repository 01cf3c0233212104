#include "engine/memory/memory_policy.h"

#include <gtest/gtest.h>
#include <linux/mempolicy.h>

#include "engine/memory/vma_kind.h"

namespace dormouse::engine {
namespace {

std::vector<pb::vma_entry> mappings(std::size_t count) {
  std::vector<pb::vma_entry> made(count);
  for (std::size_t i = 0; i < count; ++i) {
    made[i].set_start(0x10000 + i * 0x2000);
    made[i].set_end(made[i].start() + 0x1000);
    made[i].set_status(vma_status::kRegular | vma_status::kAnonPrivate);
  }
  return made;
}

pb::memory_policy_entry policy(std::uint32_t mode, std::string nodes) {
  pb::memory_policy_entry made;
  made.set_mode(mode);
  made.set_nodes(std::move(nodes));
  return made;
}

TEST(MemoryPolicy, ManyMappingsAreAskedInSeveralPrograms) {
  auto vmas = mappings(5000);
  vmas[0].set_status(vma_status::kRegular | vma_status::kAnonPrivate | vma_status::kVdso);
  PolicyQuestions questions;
  parasite::Program first, second, third;
  EXPECT_TRUE(questions.ask(first, vmas));
  EXPECT_EQ(first.op_count(), 4096u);
  EXPECT_TRUE(questions.ask(second, vmas));
  EXPECT_EQ(second.op_count(), 5000u - 1 - 4096);
  EXPECT_FALSE(questions.ask(third, vmas));
  EXPECT_TRUE(third.empty());
}

TEST(MemoryPolicy, OnlyWhatDiffersFromTheEnginesIsSet) {
  pb::thread_attributes_entry from, own;
  parasite::Program none, set, reset;
  append_thread_policy(none, from, own);
  EXPECT_TRUE(none.empty());
  *from.mutable_memory_policy() = policy(MPOL_BIND, "\x01");
  append_thread_policy(set, from, own);
  EXPECT_EQ(set.label(0), "memory policy 0x2 on nodes 0");
  append_thread_policy(reset, own, from);
  EXPECT_EQ(reset.label(0), "memory policy 0x0 on no nodes");
}

TEST(MemoryPolicy, NonsenseIsRefused) {
  pb::memory_attributes_entry entry;
  pb::range_policy_entry& range = *entry.add_policies();
  *range.mutable_policy() = policy(MPOL_INTERLEAVE, std::string("\x00\x81", 2));
  EXPECT_EQ(policy_text(range.policy()), "0x3 on nodes 8,15");
  range.set_start(0x1000);
  range.set_end(0x3000);
  EXPECT_TRUE(check_memory_policies(entry));
  range.set_end(0x1000);
  EXPECT_FALSE(check_memory_policies(entry));
  range.set_end(0x1800);
  EXPECT_FALSE(check_memory_policies(entry));
}

}  // namespace
}  // namespace dormouse::engine
