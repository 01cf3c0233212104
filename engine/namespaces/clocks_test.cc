#include "engine/namespaces/clocks.h"

#include <gtest/gtest.h>

namespace dormouse::engine {
namespace {

using proc::TimeOffset;

TEST(Clocks, KeepsNanosecondsInRange) {
  EXPECT_EQ(add({1, 900'000'000}, {2, 200'000'000}), (TimeOffset{4, 100'000'000}));
  EXPECT_EQ(subtract({1, 100'000'000}, {0, 900'000'000}), (TimeOffset{0, 200'000'000}));
  EXPECT_EQ(subtract({0, 0}, {0, 81'250'633}), (TimeOffset{-1, 918'749'367}));
  EXPECT_EQ(add({-1, 918'749'367}, {0, 81'250'633}), (TimeOffset{0, 0}));
  EXPECT_EQ(add({-10, 500'000'000}, {-10, 500'000'000}), (TimeOffset{-19, 0}));
}

}  // namespace
}  // namespace dormouse::engine
