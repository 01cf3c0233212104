#include "base/text.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace dormouse {
namespace {

TEST(Text, ParseNumberWantsTheWholeText) {
  EXPECT_EQ(parse_number<int>("42"), 42);
  EXPECT_EQ(parse_number<std::uint64_t>("7fff0000", 16), 0x7fff0000u);
  EXPECT_EQ(parse_number<int>("42 "), std::nullopt);
  EXPECT_EQ(parse_number<unsigned>("-1"), std::nullopt);
  EXPECT_EQ(parse_number<std::uint8_t>("256"), std::nullopt);
  EXPECT_EQ(parse_number<int>(""), std::nullopt);
}

TEST(Text, SplitKeepsEmptyFieldsAndBlanksDoNot) {
  EXPECT_EQ(split("a,,b", ',').size(), 3u);
  EXPECT_EQ(split("", ',').size(), 1u);
  EXPECT_EQ(split_blanks("  a \t b ").size(), 2u);
  EXPECT_TRUE(split_blanks("  ").empty());
}

TEST(Text, TakeUntilConsumesTheSeparator) {
  std::string_view rest = "key=value";
  EXPECT_EQ(take_until(rest, '='), "key");
  EXPECT_EQ(rest, "value");
  EXPECT_EQ(take_until(rest, '='), "value");
  EXPECT_TRUE(rest.empty());
}

}  // namespace
}  // namespace dormouse
