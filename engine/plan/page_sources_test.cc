#include "engine/plan/page_sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/memory/parent_pages.h"

namespace dormouse::engine {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
constexpr std::uint32_t kPresent = page_flags::kPresent, kInParent = page_flags::kInParent;

TEST(PageSources, EachPageIsFoundWhereTheYoungestMapSays) {
  const PageMap young{1, 0, {{0x1000, 0x3000, kPresent}, {0x3000, 0x6000, kInParent}, {0x9000, 0xa000, kPresent}}};
  const PageMap old{1, 0, {{0x0, 0x2000, kPresent}, {0x3000, 0x4000, kInParent}, {0x4000, 0x7000, kPresent}}};
  std::vector<PageRun> found;
  const auto beyond = look_up(young, young.entries, 0, found);
  ASSERT_TRUE(beyond) << beyond.error().message();
  ASSERT_THAT(*beyond, SizeIs(1));
  ASSERT_THAT(found, SizeIs(2));
  EXPECT_EQ(found[1].start, 0x9000u);
  EXPECT_EQ(found[1].offset, 0x2000u);  // what is in the parent takes no room in the file

  const auto older = look_up(old, *beyond, 1, found);
  ASSERT_TRUE(older) << older.error().message();
  ASSERT_THAT(*older, SizeIs(1));
  EXPECT_EQ((*older)[0].start, 0x3000u);
  EXPECT_EQ((*older)[0].end, 0x4000u);
  ASSERT_THAT(found, SizeIs(3));
  EXPECT_EQ(found[2].start, 0x4000u);
  EXPECT_EQ(found[2].end, 0x6000u);
  EXPECT_EQ(found[2].file, 1u);
  EXPECT_EQ(found[2].offset, 0x2000u);
}

TEST(PageSources, APageThatTheParentLacksIsNamed) {
  const PageMap old{1, 0, {{0x1000, 0x2000, kPresent}, {0x3000, 0x4000, kPresent}}};
  std::vector<PageRun> found;
  for (const MapEntry& want : {MapEntry{0x1000, 0x3000, kInParent}, {0x0, 0x2000, kInParent}, {0x3000, 0x5000, kInParent},
                               {0x8000, 0x9000, kInParent}}) {
    const auto beyond = look_up(old, {want}, 0, found);
    ASSERT_FALSE(beyond);
    EXPECT_EQ(beyond.error().kind(), Error::Kind::kCorruptImage);
    EXPECT_THAT(beyond.error().message(), HasSubstr("is said to be there and is not"));
  }
}

TEST(PageSources, NothingWantedIsNothingFound) {
  std::vector<PageRun> found;
  EXPECT_THAT(*look_up({}, {}, 0, found), IsEmpty());
  EXPECT_THAT(found, IsEmpty());
}

}  // namespace
}  // namespace dormouse::engine
