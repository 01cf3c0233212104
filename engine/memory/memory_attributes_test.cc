#include "engine/memory/memory_attributes.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "images/schema/attributes.pb.h"

namespace dormouse::engine {
namespace {

using proc::Vma;
using proc::VmFlag;

Vma vma(std::uint64_t start, std::uint64_t end, std::string name, std::initializer_list<VmFlag> flags) {
  Vma made;
  made.start = start, made.end = end, made.name = std::move(name);
  for (const VmFlag flag : flags) made.flags.set(flag);
  return made;
}

TEST(MemoryAttributes, SealsOfTheTaskAreKeptAndTheKernelsAreNot) {
  const Vma maps[] = {vma(0x1000, 0x2000, "", {VmFlag::kSealed}), vma(0x2000, 0x3000, "[heap]", {VmFlag::kSealed}),
                      vma(0x3000, 0x4000, "", {}), vma(0x4000, 0x5000, "/lib/a", {VmFlag::kSealed}),
                      vma(0x7000, 0x8000, "[vdso]", {VmFlag::kSealed}), vma(0x8000, 0x9000, "[vvar]", {VmFlag::kSealed})};
  pb::memory_attributes_entry entry;
  note_sealed(maps, entry);
  ASSERT_EQ(entry.sealed_size(), 2);
  EXPECT_EQ(entry.sealed(0).start(), 0x1000u);
  EXPECT_EQ(entry.sealed(0).end(), 0x3000u);
  EXPECT_EQ(entry.sealed(1).start(), 0x4000u);
  EXPECT_EQ(entry.sealed(1).end(), 0x5000u);
  EXPECT_TRUE(check_memory_attributes(entry));
}

TEST(MemoryAttributes, LocksOfTheFutureAreReadFromTheArea) {
  pb::memory_attributes_entry entry;
  note_lock_future(vma(0x1000, 0x2000, "", {}), entry);
  EXPECT_FALSE(entry.has_lock_future());
  note_lock_future(vma(0x1000, 0x2000, "", {VmFlag::kLocked}), entry);
  EXPECT_EQ(entry.lock_future(), std::uint32_t{MCL_FUTURE});
  note_lock_future(vma(0x1000, 0x2000, "", {VmFlag::kLocked, VmFlag::kLockOnFault}), entry);
  EXPECT_EQ(entry.lock_future(), std::uint32_t{MCL_FUTURE | MCL_ONFAULT});
}

TEST(MemoryAttributes, NonsenseIsRefused) {
  const auto with = [](std::uint64_t start, std::uint64_t end, std::uint32_t lock) {
    pb::memory_attributes_entry entry;
    pb::sealed_range_entry& range = *entry.add_sealed();
    range.set_start(start);
    range.set_end(end);
    entry.set_lock_future(lock);
    return check_memory_attributes(entry).has_value();
  };
  EXPECT_TRUE(with(0x1000, 0x2000, MCL_FUTURE));
  EXPECT_FALSE(with(0x1001, 0x2000, 0));
  EXPECT_FALSE(with(0x2000, 0x2000, 0));
  EXPECT_FALSE(with(0x2000, 0x1000, 0));
  EXPECT_FALSE(with(0x1000, 0xffff'ffff'ffff'f000, 0));
  EXPECT_FALSE(with(0x1000, 0x2000, MCL_CURRENT));
}

}  // namespace
}  // namespace dormouse::engine
