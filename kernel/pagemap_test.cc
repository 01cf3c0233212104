#include "kernel/pagemap.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "kernel/features.h"
#include "kernel/file.h"

namespace dormouse::sys {
namespace {

constexpr std::uint64_t kPage = 4096;

std::string text_of(const std::vector<abi::PageRegion>& regions, std::uint64_t base) {
  std::string text;
  for (const auto& region : regions) {
    text += std::to_string((region.start - base) / kPage) + "-" +
            std::to_string((region.end - base) / kPage);
    if (region.categories & abi::kPageIsPresent) text += 'p';
    if (region.categories & abi::kPageIsFile) text += 'f';
    if (region.categories & abi::kPageIsPfnzero) text += 'z';
    text += ' ';
  }
  return text;
}

class PagemapTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam() && !Features().has(Feature::kPagemapScan))
      GTEST_SKIP() << "this kernel has no PAGEMAP_SCAN";
  }
  Pagemap pagemap_ = Pagemap::open(proc::ProcDir::self().value(), GetParam()).value();
};

// 32 pages: 0 written, 1 untouched, 2 read (zero page), 3-4 written, the rest untouched.
Mapping sample() {
  auto area = Mapping::map(-1, 32 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS).value();
  ::madvise(area.data(), area.size(), MADV_NOHUGEPAGE);
  auto* const bytes = static_cast<volatile std::byte*>(area.data());
  bytes[0 * kPage] = std::byte{1};
  (void)bytes[2 * kPage];
  bytes[3 * kPage] = std::byte{1};
  bytes[4 * kPage] = std::byte{1};
  return area;
}

TEST_P(PagemapTest, TellsWrittenZeroAndAbsentPages) {
  const auto area = sample();
  const auto base = reinterpret_cast<std::uint64_t>(area.data());
  const auto found = pagemap_.ranges(base, base + area.size());
  ASSERT_TRUE(found) << found.error().message();
  const bool sees_zero = ::geteuid() == 0 || GetParam();
  EXPECT_EQ(text_of(*found, base), sees_zero ? "0-1p 2-3pz 3-5p " : "0-1p 2-5p ");
}

TEST_P(PagemapTest, InvertedAndAllOf) {
  const auto area = sample();
  const auto base = reinterpret_cast<std::uint64_t>(area.data());
  if (::geteuid() != 0 && !GetParam()) GTEST_SKIP() << "zero pages are visible to root only";
  const auto found = pagemap_.ranges(base, base + area.size(),
                                     {.all_of = abi::kPageIsPresent | abi::kPageIsPfnzero,
                                      .inverted = abi::kPageIsPfnzero,
                                      .returned = abi::kPageIsPresent});
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(text_of(*found, base), "0-1p 3-5p ");
}

TEST_P(PagemapTest, SharedMemoryIsFile) {
  const auto file = memfd_create("test").value();
  ASSERT_TRUE(ftruncate(file.get(), 4 * kPage));
  const auto area = Mapping::map(file.get(), 4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED).value();
  *static_cast<volatile std::byte*>(area.data() + kPage) = std::byte{1};
  const auto base = reinterpret_cast<std::uint64_t>(area.data());
  EXPECT_EQ(text_of(pagemap_.ranges(base, base + area.size()).value(), base), "1-2pf ");
}

TEST_P(PagemapTest, ManyRangesCrossTheBuffer) {
  constexpr std::size_t kPages = 40'000;  // alternating: more ranges than one scan, more pages than one read
  const auto area =
      Mapping::map(-1, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS).value();
  ::madvise(area.data(), area.size(), MADV_NOHUGEPAGE);
  for (std::size_t i = 0; i < kPages; i += 2)
    static_cast<volatile std::byte*>(area.data())[i * kPage] = std::byte{1};
  const auto base = reinterpret_cast<std::uint64_t>(area.data());
  const auto found = pagemap_.ranges(base, base + area.size()).value();
  ASSERT_EQ(found.size(), kPages / 2);
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(found[i].start, base + 2 * i * kPage);
    ASSERT_EQ(found[i].end, base + (2 * i + 1) * kPage);
  }
}

TEST_P(PagemapTest, OneLongRangeIsOneRange) {
  constexpr std::size_t kPages = 40'000;
  const auto area =
      Mapping::map(-1, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE)
          .value();
  const auto base = reinterpret_cast<std::uint64_t>(area.data());
  const auto found =
      pagemap_.ranges(base, base + area.size(), {.any_of = abi::kPageIsPresent, .returned = abi::kPageIsPresent})
          .value();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].end - found[0].start, area.size());
}

INSTANTIATE_TEST_SUITE_P(BothWays, PagemapTest, testing::Bool(),
                         [](const auto& which) { return which.param ? "scan" : "read"; });

TEST(Pagemap, ReadingCannotTrackWrites) {
  auto pagemap = Pagemap::open(proc::ProcDir::self().value(), false).value();
  EXPECT_EQ(pagemap.ranges(0, kPage, {.any_of = abi::kPageIsWritten}).error().kind(),
            Error::Kind::kUnsupported);
}

}  // namespace
}  // namespace dormouse::sys
