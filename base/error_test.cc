#include "base/error.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

namespace dormouse {
namespace {

Result<int> halve(int n) {
  if (n % 2) return fail(Error::bad_option("odd"));
  return n / 2;
}
Result<int> quarter(int n) {
  const int half = TRY(halve(n));
  return TRY_OR(halve(half), std::move(e).object("half"));
}

TEST(Error, MessageNamesObjectOwnerReasonRemedyInOneLine) {
  const Error e = Error::kernel("openat", ENOENT)
                      .object("descriptor 7")
                      .owner("pid 12 (sh)")
                      .remedy("use --root")
                      .during("saving\nfiles");
  EXPECT_EQ(e.message(),
            "descriptor 7 of pid 12 (sh): saving files: openat: No such file or directory (ENOENT) "
            "(use --root)");
}

TEST(Error, InnerContextIsNotOverwritten) {
  EXPECT_EQ(Error::corrupt("bad").object("inner").object("outer").object(), "inner");
}

TEST(Error, ErrnoIsNeverZero) {
  EXPECT_EQ(Error::kernel("x", 0).err(), EIO);
  EXPECT_EQ(Error::unsupported("x").err(), ENOTSUP);
}

Result<std::vector<std::string>> three_words() {
  return std::vector<std::string>{"a long word that lives on the heap", "two", "three"};
}
Result<std::size_t> count_words() {
  std::size_t count = 0;
  for (const auto all = TRY(three_words()); const std::string& word : all) count += word.empty() ? 0 : 1;
  return count;
}

TEST(Try, ItsValueLivesAsLongAsALoopOverIt) { EXPECT_EQ(count_words().value(), 3u); }

TEST(Try, PassesValuesAndErrors) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).error().object(), "half");
  EXPECT_EQ(quarter(5).error().object(), "");
}

}  // namespace
}  // namespace dormouse
