#include "oci/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dormouse::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Result<Document> parse(std::string_view text) { return Document::parse(text, "/b/config.json", "mend it"); }

template <class T>
std::string error_of(std::string_view text, std::string_view key) {
  auto document = parse(text);
  if (!document) return document.error().message();
  T value{};
  const auto result = document->root().need(key, value);
  return result ? "no error" : result.error().message();
}

TEST(Json, TextThatIsNotJsonIsOneClearLine) {
  const auto document = parse("#!/bin/sh\necho hello\n");
  ASSERT_FALSE(document);
  const auto message = document.error().message();
  EXPECT_THAT(message, StartsWith("/b/config.json: not JSON: parse error at line 1, column 1"));
  EXPECT_THAT(message, HasSubstr("(mend it)"));
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

TEST(Json, EmptyAndTruncatedTextsAreErrors) {
  EXPECT_FALSE(parse(""));
  EXPECT_FALSE(parse("{\"a\": [1, 2"));
  EXPECT_FALSE(parse("{} trailing"));
}

TEST(Json, TextThatIsTooLongIsRefusedBeforeParsing) {
  EXPECT_FALSE(parse(std::string(kMaxJsonBytes + 1, ' ')));
}

TEST(Json, DeepNestingDoesNotExhaustTheStack) {
  const std::size_t depth = 100'000;
  EXPECT_TRUE(parse(std::string(depth, '[') + std::string(depth, ']')));
}

TEST(Json, WrongTypesNamePlaceAndBothTypes) {
  EXPECT_EQ(error_of<std::string>(R"({"a": 1})", "a"),
            "/b/config.json: a: a string was expected, this is a number (mend it)");
  EXPECT_EQ(error_of<bool>(R"({"a": []})", "a"),
            "/b/config.json: a: a boolean was expected, this is an array (mend it)");
  EXPECT_EQ(error_of<std::int64_t>(R"({"a": "1"})", "a"),
            "/b/config.json: a: a whole number was expected, this is a string (mend it)");
  EXPECT_EQ(error_of<std::vector<std::string>>(R"({"a": ["x", 7]})", "a"),
            "/b/config.json: a[1]: a string was expected, this is a number (mend it)");
  using Map = std::map<std::string, std::string>;
  EXPECT_EQ(error_of<Map>(R"({"a": {"k": false}})", "a"),
            "/b/config.json: a.k: a string was expected, this is a boolean (mend it)");
  EXPECT_EQ(error_of<std::string>("[]", "a"), "/b/config.json: an object was expected, this is an array (mend it)");
}

TEST(Json, NumbersThatDoNotFitAreErrors) {
  EXPECT_THAT(error_of<std::int64_t>(R"({"a": 1.5})", "a"), HasSubstr("fraction"));
  EXPECT_THAT(error_of<std::int64_t>(R"({"a": 18446744073709551615})", "a"), HasSubstr("64 bits"));
  EXPECT_THAT(error_of<std::uint64_t>(R"({"a": -1})", "a"), HasSubstr("below zero"));
  EXPECT_THAT(error_of<std::uint32_t>(R"({"a": 4294967296})", "a"), HasSubstr("32 bits"));
  EXPECT_EQ(error_of<std::uint64_t>(R"({"a": 18446744073709551615})", "a"), "no error");
  EXPECT_EQ(error_of<std::int64_t>(R"({"a": -9223372036854775808})", "a"), "no error");
}

TEST(Json, NulCharactersInStringsAreRefused) {
  EXPECT_THAT(error_of<std::string>(R"({"a": "/etc\u0000/x"})", "a"), HasSubstr("NUL"));
}

TEST(Json, NullCountsAsAbsent) {
  auto document = parse(R"({"a": null})");
  ASSERT_TRUE(document);
  std::string value = "kept";
  EXPECT_TRUE(document->root().read("a", value));
  EXPECT_TRUE(document->root().read("b", value));
  EXPECT_EQ(value, "kept");
  EXPECT_EQ(document->root().need("a", value).error().message(), "/b/config.json: a: is missing (mend it)");
  EXPECT_TRUE(document->root().list("a")->empty());
}

TEST(Json, OptionalValuesAreFilledOnlyWhenPresent) {
  auto document = parse(R"({"a": 5})");
  ASSERT_TRUE(document);
  std::optional<std::int64_t> a, b;
  EXPECT_TRUE(document->root().read("a", a));
  EXPECT_TRUE(document->root().read("b", b));
  EXPECT_EQ(a, 5);
  EXPECT_EQ(b, std::nullopt);
}

TEST(Json, WhatIsWrittenIsReadBack) {
  const std::string hard = "quote\" back\\slash\nnew\ttab \x01 ünï ☃ \U0001F400";
  const auto text = ObjectWriter()
                        .add("string", hard)
                        .add("number", std::int64_t{-7})
                        .add("yes", true)
                        .add("list", std::vector<std::string>{"a", hard})
                        .add("map", std::map<std::string, std::string>{{hard, "v"}})
                        .text();
  auto document = parse(text);
  ASSERT_TRUE(document) << document.error().message();
  std::string string;
  std::int64_t number = 0;
  bool yes = false;
  std::vector<std::string> list;
  std::map<std::string, std::string> map;
  const Node root = document->root();
  ASSERT_TRUE(root.need("string", string) && root.need("number", number) && root.need("yes", yes) &&
              root.need("list", list) && root.need("map", map));
  EXPECT_EQ(string, hard);
  EXPECT_EQ(number, -7);
  EXPECT_TRUE(yes);
  EXPECT_THAT(list, ElementsAre("a", hard));
  EXPECT_EQ(map.at(hard), "v");
}

TEST(Json, BytesThatAreNoUtf8AreReplaced) {
  EXPECT_EQ(json_quoted("a\xff z\xc3"), R"("a\ufffd z\ufffd")");
  EXPECT_EQ(json_quoted("\xed\xa0\x80"), R"("\ufffd\ufffd\ufffd")");  // a surrogate
  EXPECT_EQ(json_quoted("\xc0\xaf"), R"("\ufffd\ufffd")");            // overlong '/'
  EXPECT_TRUE(parse("[" + json_quoted("\xf4\x90\x80\x80") + "]"));
}

}  // namespace
}  // namespace dormouse::oci
