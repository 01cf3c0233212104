#include "kernel/features.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

namespace dormouse::sys {
namespace {

TEST(Features, EveryProbeRunsAndLeavesNoDescriptor) {
  const Features features;
  const int before = ::dup(0);
  ::close(before);
  std::string present, absent;
  for (const auto& info : Features::all()) {
    std::string& list = features.has(info.feature) ? present : absent;
    list += ' ';
    list += info.name;
  }
  const int after = ::dup(0);
  ::close(after);
  EXPECT_EQ(before, after);
  std::printf("present:%s\nabsent:%s\n", present.c_str(), absent.c_str());
  // What no kernel that can run this engine lacks.
  EXPECT_TRUE(features.has(Feature::kMemfd));
  EXPECT_TRUE(features.has(Feature::kMountId));
  EXPECT_TRUE(features.has(Feature::kNsPid));
}

TEST(Features, WithoutHidesOne) {
  const std::vector<std::string> without = {"memfd"};
  const auto features = Features::make(without);
  ASSERT_TRUE(features);
  EXPECT_FALSE(features->has(Feature::kMemfd));
  EXPECT_TRUE(features->has(Feature::kMountId));
}

TEST(Features, AnUnknownNameIsRefused) {
  const std::vector<std::string> without = {"time-travel"};
  const auto features = Features::make(without);
  ASSERT_FALSE(features);
  EXPECT_EQ(features.error().kind(), Error::Kind::kBadOption);
}

TEST(Features, OldNamesStillFindThem) {
  EXPECT_EQ(Features::find("pidfd_store"), Feature::kPidfdGetfd);
  EXPECT_EQ(Features::find("network_lock_nftables"), Feature::kNftables);
  EXPECT_EQ(Features::find("nothing"), std::nullopt);
}

}  // namespace
}  // namespace dormouse::sys
