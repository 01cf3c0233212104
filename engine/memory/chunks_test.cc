#include "engine/memory/chunks.h"

#include <gtest/gtest.h>

namespace dormouse::engine {
namespace {

constexpr std::uint64_t kChunk = images::kPageChunkBytes;

TEST(Chunks, RunsAreCutAtChunkBordersOfTheFile) {
  const auto chunks = cut_into_chunks({{0x1000, 0x3000, 0, true}, {0x100000, 0x100000 + kChunk, 0, true}});
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].bytes, kChunk);
  ASSERT_EQ(chunks[0].pieces.size(), 2u);
  EXPECT_EQ(chunks[0].pieces[1].bytes, kChunk - 0x2000);
  EXPECT_EQ(chunks[1].offset, kChunk);
  EXPECT_EQ(chunks[1].bytes, 0x2000u);
  EXPECT_EQ(chunks[1].pieces[0].address, 0x100000 + kChunk - 0x2000);
}

TEST(Chunks, OneUnreadableRunMakesItsChunkUnreadable) {
  const auto chunks = cut_into_chunks({{0x1000, 0x2000, 0, true}, {0x5000, 0x6000, 0, false}});
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_FALSE(chunks[0].readable);
}

TEST(Chunks, AdjoiningRunsAreOnePieceIfTheSameOneReadsThem) {
  const auto chunks = cut_into_chunks({{0x1000, 0x2000, 1, true}, {0x2000, 0x4000, 5, true}, {0x4000, 0x5000, 1, false}});
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].pieces, (std::vector<Piece>{{0x1000, 0x3000}, {0x4000, 0x1000}}));
  EXPECT_EQ(chunks[0].bytes, 0x4000u);
  EXPECT_FALSE(chunks[0].readable);
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> unreadable(const std::vector<PageRun>& runs) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> out;
  for (const PageRun& run : runs)
    if (!run.readable) out.emplace_back(run.start, run.end);
  return out;
}

TEST(Chunks, PagesAreSetApartWithinARunAtItsEndsAndNowhereElse) {
  std::vector<PageRun> runs = {{0x1000, 0x6000, 4, true}, {0x8000, 0x9000, 4, true}};
  set_apart(runs, {0x3820, 0x1000, 0x5fff, 0x8008, 0x7000, 0x9000, 0x20, 0x3000});
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> expected = {{0x1000, 0x2000}, {0x3000, 0x4000}, {0x5000, 0x6000}, {0x8000, 0x9000}};
  EXPECT_EQ(unreadable(runs), expected);
  ASSERT_EQ(runs.size(), 6u);
  EXPECT_EQ(runs[1].start, 0x2000u);
  EXPECT_EQ(runs[1].end, 0x3000u);
  EXPECT_EQ(runs[3].start, 0x4000u);
  EXPECT_EQ(runs[3].end, 0x5000u);
  for (const PageRun& run : runs) EXPECT_EQ(run.flags, 4u);
}

TEST(Chunks, PagesOfSeveralFilesAreCutWhereTheirFilesHaveGapsAndChecksumsEnd) {
  const auto chunks = cut_in_place({{0x1000, 0x2000, 0, true, 1, 0x5000},
                                    {0x2000, 0x3000, 0, true, 0, 0},
                                    {0x3000, 0x4000, 0, true, 1, 0x6000},
                                    {0x8000, 0x9000, 0, true, 1, 0x9000},
                                    {0x100000, 0x102000, 0, true, 2, kChunk - 0x1000}});
  ASSERT_EQ(chunks.size(), 5u);
  EXPECT_EQ(chunks[0].file, 0u);
  EXPECT_EQ(chunks[1].file, 1u);
  EXPECT_EQ(chunks[1].bytes, 0x2000u);
  ASSERT_EQ(chunks[1].pieces.size(), 2u);
  EXPECT_EQ(chunks[2].offset, 0x9000u);
  EXPECT_EQ(chunks[3].bytes, 0x1000u);
  EXPECT_EQ(chunks[4].offset, kChunk);
  EXPECT_EQ(chunks[4].checksum_index(), 1u);
  EXPECT_TRUE(chunks[4].is_whole(kChunk + 0x1000));
  EXPECT_FALSE(chunks[4].is_whole(kChunk + 0x2000));
  EXPECT_TRUE(chunks[0].is_whole(0x1000));
  EXPECT_FALSE(chunks[1].is_whole(0x7000));
}

TEST(Chunks, NothingGivesNothing) { EXPECT_TRUE(cut_into_chunks({}).empty()); }

}  // namespace
}  // namespace dormouse::engine
