#include "engine/task/credentials.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "images/schema/credentials.pb.h"

namespace dormouse::engine {
namespace {

pb::creds_entry root_with(std::uint64_t capabilities) {
  pb::creds_entry creds;
  creds.set_uid(0), creds.set_euid(0), creds.set_suid(0), creds.set_fsuid(0);
  creds.set_gid(0), creds.set_egid(0), creds.set_sgid(0), creds.set_fsgid(0);
  creds.set_secbits(0);
  for (auto* set : {creds.mutable_cap_prm(), creds.mutable_cap_eff(), creds.mutable_cap_bnd()}) {
    set->Add(static_cast<std::uint32_t>(capabilities));
    set->Add(static_cast<std::uint32_t>(capabilities >> 32));
  }
  for (auto* set : {creds.mutable_cap_inh(), creds.mutable_cap_amb()}) set->Add(0), set->Add(0);
  return creds;
}

std::vector<std::string> labels(const parasite::Program& program) {
  std::vector<std::string> all;
  for (std::uint32_t i = 0; i < program.op_count(); ++i)
    if (!program.label(i).empty()) all.push_back(program.label(i));
  return all;
}

std::size_t position(const std::vector<std::string>& all, std::string_view label) {
  const auto found = std::ranges::find(all, label);
  EXPECT_NE(found, all.end()) << label;
  return static_cast<std::size_t>(found - all.begin());
}

constexpr std::uint64_t kAllKnown = (std::uint64_t{1} << 41) - 1;

TEST(CredentialsTest, WhatIsNeededLaterIsTakenAwayLater) {
  pb::creds_entry creds = root_with(kAllKnown & ~(std::uint64_t{1} << 21));
  creds.set_secbits(0x2f);
  creds.set_no_new_privs(1);
  parasite::Program program;
  ASSERT_TRUE(append_credentials(program, creds));
  const auto all = labels(program);
  EXPECT_EQ(position(all, "0 supplementary groups"), 0u);
  EXPECT_LT(position(all, "group ids 0, 0, 0"), position(all, "user ids 0, 0, 0"));
  EXPECT_LT(position(all, "user ids 0, 0, 0"), position(all, "without CAP_SYS_ADMIN in the bounding set"));
  EXPECT_LT(position(all, "without CAP_SYS_ADMIN in the bounding set"), position(all, "securebits 0x2f"));
  EXPECT_LT(position(all, "securebits 0x2f"), position(all, "capabilities"));
  EXPECT_EQ(all.back(), "no_new_privs");
}

TEST(CredentialsTest, AmbientCapabilitiesComeWhileTheyMayBeRaised) {
  pb::creds_entry creds = root_with(1u << 10);
  creds.set_cap_inh(0, 1u << 10);
  creds.set_cap_amb(0, 1u << 10);
  parasite::Program program;
  ASSERT_TRUE(append_credentials(program, creds));
  const auto all = labels(program);
  EXPECT_LT(position(all, "inheritable capabilities"), position(all, "ambient CAP_NET_BIND_SERVICE"));
  EXPECT_LT(position(all, "ambient CAP_NET_BIND_SERVICE"), position(all, "securebits 0x0"));
}

TEST(CredentialsTest, ACapabilityThisKernelDoesNotKnowIsNamed) {
  parasite::Program program;
  const Result<> refused = append_credentials(program, root_with(kAllKnown | std::uint64_t{1} << 62));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "capability 62 is not known to this kernel (restore on a newer kernel)");
}

TEST(CredentialsTest, CapabilitiesHaveNames) {
  EXPECT_EQ(capability_name(0), "CAP_CHOWN");
  EXPECT_EQ(capability_name(40), "CAP_CHECKPOINT_RESTORE");
  EXPECT_EQ(capability_name(63), "capability 63");
  EXPECT_GE(last_capability(), 37u);
}

}  // namespace
}  // namespace dormouse::engine
