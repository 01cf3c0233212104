#include "engine/memory/page_tracking.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/memory/parent_pages.h"

namespace dormouse::engine {

static bool operator==(const PageRun& a, const PageRun& b) {
  return a.start == b.start && a.end == b.end && a.flags == b.flags;
}
static void PrintTo(const PageRun& run, std::ostream* out) {
  *out << std::hex << run.start << "-" << run.end << " " << run.flags;
}

namespace {

using abi::kPageIsWritten;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
constexpr std::uint32_t kPresent = page_flags::kPresent, kInParent = page_flags::kInParent;

std::vector<std::array<std::uint64_t, 3>> plain(const std::vector<abi::PageRegion>& regions) {
  std::vector<std::array<std::uint64_t, 3>> all;
  for (const auto& region : regions) all.push_back({region.start, region.end, region.categories});
  return all;
}
using Plain = std::array<std::uint64_t, 3>;

TEST(PageTracking, WhatWasFoundWrittenStaysSoAlthoughItIsProtectedNow) {
  EXPECT_THAT(plain(mark_written({{0x1000, 0x9000, 0}}, {{0x3000, 0x4000, 0}, {0x8000, 0xa000, 0}})),
              ElementsAre(Plain{0x1000, 0x3000, 0}, Plain{0x3000, 0x4000, kPageIsWritten}, Plain{0x4000, 0x8000, 0},
                          Plain{0x8000, 0x9000, kPageIsWritten}));
}

TEST(PageTracking, OneWrittenRangeCoversManyRegions) {
  EXPECT_THAT(plain(mark_written({{0x1000, 0x2000, 0}, {0x4000, 0x5000, 0}, {0x9000, 0xa000, 0}}, {{0x0, 0x5000, 0}})),
              ElementsAre(Plain{0x1000, 0x2000, kPageIsWritten}, Plain{0x4000, 0x5000, kPageIsWritten}, Plain{0x9000, 0xa000, 0}));
}

TEST(PageTracking, NothingWrittenChangesNothing) {
  EXPECT_THAT(plain(mark_written({{0x1000, 0x2000, kPageIsWritten}}, {})), ElementsAre(Plain{0x1000, 0x2000, kPageIsWritten}));
  EXPECT_THAT(plain(mark_written({}, {{0x1000, 0x2000, 0}})), IsEmpty());
}

TEST(PageTracking, OnlyPrivateAnonymousMemoryIsProtected) {
  proc::Vma vma;
  vma.flags.set(proc::VmFlag::kMayWrite);
  EXPECT_TRUE(can_be_protected(vma));
  vma.name = "[heap]";
  EXPECT_TRUE(can_be_protected(vma));
  for (const char* name : {"[vvar]", "[vdso]", "[vsyscall]", "[vvar_vclock]"}) {
    vma.name = name;
    EXPECT_FALSE(can_be_protected(vma)) << name;
  }
  vma.name = "";
  vma.inode = 7;
  EXPECT_FALSE(can_be_protected(vma));
  vma.inode = 0;
  vma.shared = true;
  EXPECT_FALSE(can_be_protected(vma));
  vma.shared = false;
  vma.flags.set(proc::VmFlag::kHugeTlb);
  EXPECT_FALSE(can_be_protected(vma));
}

TEST(ParentPages, CleanPagesAreLeftToTheParentAsFarAsItHasThem) {
  const PageRange covered[] = {{0x2000, 0x4000}, {0x4000, 0x5000}, {0x8000, 0x20000}};
  std::vector<PageRun> runs;
  append_uncovered({0x1000, 0xa000, kPresent, true}, covered, runs);
  EXPECT_THAT(runs, ElementsAre(PageRun{0x1000, 0x2000, kPresent}, PageRun{0x2000, 0x4000, kInParent},
                                PageRun{0x4000, 0x5000, kInParent}, PageRun{0x5000, 0x8000, kPresent},
                                PageRun{0x8000, 0xa000, kInParent}));
}

TEST(ParentPages, AParentThatHasNothingGetsNothing) {
  std::vector<PageRun> runs;
  append_uncovered({0x1000, 0x3000, kPresent, true}, {}, runs);
  const PageRange elsewhere[] = {{0x0, 0x1000}, {0x8000, 0x9000}};
  append_uncovered({0x3000, 0x4000, kPresent, true}, elsewhere, runs);
  EXPECT_THAT(runs, ElementsAre(PageRun{0x1000, 0x3000, kPresent}, PageRun{0x3000, 0x4000, kPresent}));
}

}  // namespace
}  // namespace dormouse::engine
