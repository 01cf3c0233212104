#include "engine/memory/memory_plan.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <optional>
#include <string>
#include <vector>

#include "engine/memory/vma_kind.h"

namespace dormouse::engine {
namespace {

namespace s = vma_status;

// A task with one private anonymous mapping, whose page at `page` is saved.
ImageTask task_with(std::uint32_t protection, std::uint64_t page, std::uint32_t flags = MAP_PRIVATE | MAP_ANONYMOUS) {
  ImageTask task;
  pb::vma_entry& vma = *task.mm.emplace().add_vmas();
  vma.set_start(0x10000);
  vma.set_end(0x20000);
  vma.set_status(s::kRegular | s::kAnonPrivate);
  vma.set_prot(protection);
  vma.set_flags(flags);
  task.pages = {{page, page + 0x1000, 4, true}};
  return task;
}

struct Steps {
  std::string map, seal, late;
};
Steps steps_of(const ImageTask& task, const ImageTask* parent = nullptr) {
  const VdsoPlan vdso;
  const auto plan = MemoryPlan::make(task, vdso, {parent, &vdso}, 0x7000'0000);
  EXPECT_TRUE(plan) << plan.error().message();
  parasite::Program map, seal, late;
  MemoryFiles files;
  files.pages = {0};
  plan->append_map(map, files);
  plan->append_seal(seal);
  plan->append_late_advice(late);
  return {map.print(), seal.print(), late.print()};
}
std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(MemoryPlan, MemoryIsWritableWhileItIsFilled) {
  const auto read_only = steps_of(task_with(PROT_READ, 0x10000));
  EXPECT_EQ(count(read_only.seal, "protect 10000-20000"), 1u) << read_only.seal;
  const auto writable = steps_of(task_with(PROT_READ | PROT_WRITE, 0x10000));
  EXPECT_EQ(count(writable.seal, "protect"), 0u) << writable.seal;
}

TEST(MemoryPlan, InheritedMemoryIsMadeWritableIfTheParentHasItOtherwise) {
  const ImageTask parent = task_with(PROT_READ, 0x10000);
  const auto steps = steps_of(task_with(PROT_READ | PROT_WRITE, 0x11000), &parent);
  EXPECT_EQ(count(steps.map, "make writable 10000-20000"), 1u) << steps.map;
  EXPECT_EQ(count(steps.map, "drop the parent's pages 10000-11000"), 1u) << steps.map;
  EXPECT_EQ(count(steps.map, "map 10000-20000"), 0u) << steps.map;
  EXPECT_EQ(count(steps.seal, "protect 10000-20000"), 1u) << steps.seal;
}

TEST(MemoryPlan, InheritedMemoryIsMadeWritableIfTheChildHasItOtherwise) {
  const ImageTask parent = task_with(PROT_READ | PROT_WRITE, 0x10000);
  const auto steps = steps_of(task_with(PROT_NONE, 0x10000), &parent);
  EXPECT_EQ(count(steps.map, "make writable"), 0u) << "it is already";
  EXPECT_EQ(count(steps.seal, "protect 10000-20000"), 1u) << steps.seal;
}

TEST(MemoryPlan, WhatIsReadOnlyIsPartedFromItsWritableNeighboursWhenBothAreFilled) {
  ImageTask task = task_with(PROT_READ, 0x10000);
  pb::vma_entry& writable = *task.mm->add_vmas();
  writable = task.mm->vmas(0);
  writable.set_start(0x20000);
  writable.set_end(0x21000);
  writable.set_prot(PROT_READ | PROT_WRITE);
  const auto steps = steps_of(task);
  EXPECT_EQ(count(steps.map, "mmap(0x10000, 0x11000, 3,"), 1u) << steps.map;
  EXPECT_EQ(count(steps.map, "mprotect("), 0u) << steps.map;
  EXPECT_EQ(count(steps.seal, "mprotect(0x10000, 0x10000, 1)"), 1u) << steps.seal;
  EXPECT_EQ(count(steps.seal, "mprotect("), 1u) << steps.seal;
}

TEST(MemoryPlan, MemoryThatDiffersInItsProtectionOnlyIsMappedAtOnceAndCut) {
  ImageTask task = task_with(PROT_READ | PROT_WRITE, 0x10000);
  const auto add = [&](std::uint64_t start, std::uint64_t end, std::uint32_t prot, std::uint32_t flags = MAP_PRIVATE | MAP_ANONYMOUS) {
    pb::vma_entry& vma = *task.mm->add_vmas();
    vma = task.mm->vmas(0);
    vma.set_start(start);
    vma.set_end(end);
    vma.set_prot(prot);
    vma.set_flags(flags);
  };
  add(0x20000, 0x21000, PROT_READ | PROT_WRITE | PROT_EXEC);
  add(0x21000, 0x22000, PROT_READ | PROT_WRITE);
  add(0x22000, 0x23000, PROT_NONE);  // does not count as used
  add(0x23000, 0x24000, PROT_READ);
  add(0x24000, 0x25000, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED);
  add(0x26000, 0x27000, PROT_READ | PROT_WRITE);  // after a hole
  add(0x27000, 0x28000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN);
  add(0x28000, 0x29000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  const auto steps = steps_of(task);
  for (const char* range : {"mmap(0x10000, 0x12000, 3,", "mprotect(0x20000, 0x1000, 7)", "mmap(0x22000, 0x2000, 0,",
                            "mprotect(0x23000, 0x1000, 1)", "mmap(0x24000, 0x1000, 1,", "mmap(0x26000, 0x1000, 3,",
                            "mmap(0x27000, 0x1000, 3,", "mmap(0x28000, 0x1000, 3,"})
    EXPECT_EQ(count(steps.map, range), 1u) << range << "\n" << steps.map;
  EXPECT_EQ(count(steps.map, "mprotect("), 2u) << steps.map;
}

// What is loaded of a task whose parent's page has checksum 1 where this one's has `own`.
std::size_t loaded_beside_parent(const ImageTask& task, const ImageTask& parent_task, std::optional<std::uint64_t> own) {
  const VdsoPlan vdso;
  const auto parent = MemoryPlan::make(parent_task, vdso, {}, 0x7000'0000);
  auto plan = MemoryPlan::make(task, vdso, {&parent_task, &vdso}, 0x7000'0000);
  EXPECT_TRUE(parent && plan);
  const Chunk* const of_parent = parent->chunks().data();
  plan->leave_out_inherited(*parent, [&](const Chunk& chunk) { return &chunk == of_parent ? std::optional<std::uint64_t>(1) : own; });
  parasite::Program program;
  MemoryFiles files;
  files.pages = {0};
  std::vector<MemoryPlan::Loaded> loaded;
  plan->append_fill(program, files, 0, plan->chunks().size(), loaded);
  return loaded.size();
}

TEST(MemoryPlan, PagesThatTheParentHasLoadedAlikeAreNotLoadedAgain) {
  const ImageTask task = task_with(PROT_READ | PROT_WRITE, 0x11000);
  EXPECT_EQ(loaded_beside_parent(task, task, 1), 0u);
  EXPECT_EQ(loaded_beside_parent(task, task, 2), 1u) << "another content";
  EXPECT_EQ(loaded_beside_parent(task, task, std::nullopt), 1u) << "images without checksums";
  EXPECT_EQ(loaded_beside_parent(task, task_with(PROT_READ | PROT_WRITE, 0x12000), 1), 1u) << "other pages";
  ImageTask apart = task;
  apart.mm->mutable_vmas(0)->set_madv(std::uint64_t{1} << MADV_WIPEONFORK);
  EXPECT_EQ(loaded_beside_parent(apart, task, 1), 1u) << "not inherited";
}

TEST(MemoryPlan, GuardsComeLateAndLockedMemoryIsUnlockedForThem) {
  ImageTask task = task_with(PROT_READ | PROT_WRITE, 0x10000, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED);
  *task.mm->add_vmas() = describe_guard(0x12000, 0x13000);
  const auto steps = steps_of(task);
  EXPECT_EQ(count(steps.map + steps.seal, "guard"), 0u);
  const auto unlock = steps.late.find("unlock 12000-13000"), guard = steps.late.find("guard 12000-13000");
  ASSERT_NE(guard, std::string::npos) << steps.late;
  EXPECT_LT(unlock, guard) << steps.late;
  EXPECT_LT(guard, steps.late.find("lock 12000-13000", guard)) << steps.late;
}

TEST(MemoryPlan, MemoryLockedAsItComesIsLockedWhenItIsFilled) {
  const auto steps = steps_of(task_with(PROT_READ | PROT_WRITE, 0x10000, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_NONBLOCK));
  EXPECT_EQ(count(steps.seal, "lock 10000-20000"), 1u) << steps.seal;
}

TEST(MemoryPlan, PagesOutsideOfPrivateMemoryAreCorrupt) {
  const VdsoPlan vdso;
  const auto plan = MemoryPlan::make(task_with(PROT_READ, 0x20000), vdso, {}, 0x7000'0000);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().kind(), Error::Kind::kCorruptImage);
}

}  // namespace
}  // namespace dormouse::engine
