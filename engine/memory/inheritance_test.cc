#include "engine/memory/inheritance.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "engine/memory/vma_kind.h"

namespace dormouse::engine {
namespace {

namespace s = vma_status;

pb::vma_entry* add(pb::mm_entry& mm, std::uint64_t start, std::uint64_t end,
                   std::uint32_t status = s::kRegular | s::kAnonPrivate) {
  pb::vma_entry* vma = mm.add_vmas();
  vma->set_start(start);
  vma->set_end(end);
  vma->set_status(status);
  vma->set_flags(MAP_PRIVATE | MAP_ANONYMOUS);
  return vma;
}

TEST(Inheritance, MappingsThatAreTheSameComeAlongAndTheOthersAreForeign) {
  pb::mm_entry parent, child;
  add(parent, 0x1000, 0x2000);
  add(parent, 0x2000, 0x3000);
  add(parent, 0x3000, 0x5000);
  add(parent, 0x8000, 0x9000, s::kRegular | s::kAnonShared);
  add(child, 0x1000, 0x2000);
  add(child, 0x3000, 0x6000);  // longer
  add(child, 0x8000, 0x9000, s::kRegular | s::kAnonShared);
  const auto inherited = inherited_mappings(parent, child);
  ASSERT_EQ(inherited.size(), 3u);
  EXPECT_EQ(inherited[0], &parent.vmas(0));
  EXPECT_EQ(inherited[1], &parent.vmas(2));
  EXPECT_EQ(inherited[2], nullptr);
  EXPECT_EQ(foreign_mappings(parent, child, inherited), (std::vector<AddressRange>{{0x2000, 0x3000}, {0x8000, 0x9000}}));
}

TEST(Inheritance, WhatStandsWhereAMappingHasGrownIsForeign) {
  pb::mm_entry parent, child;
  add(parent, 0x1000, 0x4000);
  add(parent, 0x5000, 0x6000);
  add(parent, 0x7000, 0x9000);
  add(child, 0x2000, 0x8000);  // the front is cut off
  add(child, 0x8000, 0x9000);
  const auto inherited = inherited_mappings(parent, child);
  EXPECT_EQ(inherited, (std::vector<const pb::vma_entry*>{&parent.vmas(0), &parent.vmas(2)}));
  EXPECT_EQ(foreign_mappings(parent, child, inherited), (std::vector<AddressRange>{{0x1000, 0x2000}, {0x5000, 0x6000}, {0x7000, 0x8000}}));
}

TEST(Inheritance, StacksAndHugePagesAreMadeAnewWhereTheyHaveGrown) {
  for (const std::uint32_t flag : {MAP_GROWSDOWN, MAP_HUGETLB}) {
    pb::mm_entry parent, child;
    add(parent, 0x1000, 0x4000)->set_flags(MAP_PRIVATE | MAP_ANONYMOUS | flag);
    add(child, 0x1000, 0x6000)->set_flags(MAP_PRIVATE | MAP_ANONYMOUS | flag);
    EXPECT_EQ(inherited_mappings(parent, child)[0], nullptr);
  }
}

TEST(Inheritance, PiecesOfAMappingComeAlongAndTheRestIsForeign) {
  pb::mm_entry parent, child;
  add(parent, 0x1000, 0x9000);
  pb::vma_entry* file = add(parent, 0x9000, 0xc000, s::kRegular | s::kFilePrivate);
  file->set_pgoff(0x5000);
  add(child, 0x2000, 0x3000);
  add(child, 0x3000, 0x5000);
  add(child, 0x6000, 0x7000)->set_flags(MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN);  // something else
  add(child, 0xa000, 0xb000, s::kRegular | s::kFilePrivate)->set_pgoff(0x6000);
  add(child, 0xb000, 0xc000, s::kRegular | s::kFilePrivate)->set_pgoff(0x6000);  // of another place in the file
  const auto inherited = inherited_mappings(parent, child);
  ASSERT_EQ(inherited.size(), 5u);
  EXPECT_EQ(inherited[0], &parent.vmas(0));
  EXPECT_EQ(inherited[1], &parent.vmas(0));
  EXPECT_EQ(inherited[2], nullptr);
  EXPECT_EQ(inherited[3], file);
  EXPECT_EQ(inherited[4], nullptr);
  EXPECT_EQ(foreign_mappings(parent, child, inherited),
            (std::vector<AddressRange>{{0x1000, 0x2000}, {0x5000, 0xa000}, {0xb000, 0xc000}}));
}

TEST(Inheritance, LocksAreNoObstacleButAdviceIs) {
  pb::mm_entry parent, child;
  add(parent, 0x1000, 0x2000)->set_flags(MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED);
  add(parent, 0x2000, 0x3000)->set_madv(1ull << MADV_HUGEPAGE);
  add(parent, 0x3000, 0x4000)->set_madv(1ull << MADV_DONTFORK);
  add(parent, 0x4000, 0x5000);
  for (std::uint64_t at = 0x1000; at < 0x4000; at += 0x1000) add(child, at, at + 0x1000);
  add(child, 0x4000, 0x5000)->set_madv(1ull << MADV_WIPEONFORK);
  const auto inherited = inherited_mappings(parent, child);
  EXPECT_EQ(inherited[0], &parent.vmas(0));
  EXPECT_EQ(inherited[1], nullptr);
  EXPECT_EQ(inherited[2], nullptr);
  EXPECT_EQ(inherited[3], nullptr);
}

TEST(Inheritance, GuardsBehindTheMappingsAreNoMappings) {
  pb::mm_entry parent, child;
  add(parent, 0x1000, 0x3000);
  add(parent, 0x5000, 0x6000);
  *parent.add_vmas() = describe_guard(0x1000, 0x2000);
  add(child, 0x5000, 0x6000);
  *child.add_vmas() = describe_guard(0x5000, 0x6000);
  const auto inherited = inherited_mappings(parent, child);
  EXPECT_EQ(inherited[0], &parent.vmas(1));
  EXPECT_EQ(inherited[1], nullptr);
  EXPECT_EQ(foreign_mappings(parent, child, inherited), (std::vector<AddressRange>{{0x1000, 0x3000}}));
}

// Page by page, as slow and as plain as can be.
std::vector<AddressRange> stale_reference(const std::vector<AddressRange>& inherited, const std::vector<PageRun>& parent,
                                   const std::vector<PageRun>& child) {
  const auto in = [](const auto& ranges, std::uint64_t page) {
    for (const auto& range : ranges)
      if (page >= range.start && page < range.end) return true;
    return false;
  };
  std::vector<AddressRange> stale;
  for (std::uint64_t page = 0; page < 128; ++page)
    if (in(inherited, page) && in(parent, page) && !in(child, page)) stale.push_back({page, page + 1});
  return stale;
}

std::vector<AddressRange> by_page(const std::vector<AddressRange>& ranges) {
  std::vector<AddressRange> pages;
  for (const AddressRange& range : ranges)
    for (std::uint64_t page = range.start; page < range.end; ++page) pages.push_back({page, page + 1});
  return pages;
}

TEST(Inheritance, StalePagesAreWhatTheParentHasAndTheChildHasNot) {
  std::uint32_t seed = 1;
  const auto random = [&](std::uint32_t below) { return ((seed = seed * 1664525 + 1013904223) >> 16) % below; };
  for (int round = 0; round < 2000; ++round) {
    const auto ranges = [&] {
      std::vector<PageRun> runs;
      for (std::uint64_t at = random(4); at < 60;) {
        const std::uint64_t end = at + 1 + random(6);
        runs.push_back({at, end, 0, true});
        at = end + random(5);
      }
      return runs;
    };
    const auto parent = ranges(), child = ranges();
    std::vector<AddressRange> inherited;
    for (const PageRun& run : ranges()) inherited.push_back({run.start, run.end});
    ASSERT_EQ(by_page(stale_pages(inherited, parent, child)), stale_reference(inherited, parent, child)) << round;
  }
}

}  // namespace
}  // namespace dormouse::engine
