#include "shim/kernel_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace dormouse::shim {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

bool everything(sys::Feature) {
  return true;
}
bool nothing(sys::Feature) {
  return false;
}

TEST(KernelCheck, KnowsTheNamesThatCallersUse) {
  const auto names = feature_names();
  for (const std::string_view name : {"mnt_id",
                                      "mem_dirty_track",
                                      "aio_remap",
                                      "timerfd",
                                      "tun",
                                      "tun_ns",
                                      "userns",
                                      "fdinfo_lock",
                                      "seccomp_suspend",
                                      "seccomp_filters",
                                      "loginuid",
                                      "cgroupns",
                                      "autofs",
                                      "tcp_half_closed",
                                      "compat_cr",
                                      "uffd",
                                      "uffd-noncoop",
                                      "can_map_vdso",
                                      "sk_ns",
                                      "sk_unix_file",
                                      "net_diag_raw",
                                      "nsid",
                                      "link_nsid",
                                      "kcmp_epoll",
                                      "timens",
                                      "external_net_ns",
                                      "clone3_set_tid",
                                      "newifindex",
                                      "nftables",
                                      "has_ipt_legacy",
                                      "pidfd_store",
                                      "ns_pid",
                                      "apparmor_stacking",
                                      "network_lock_nftables",
                                      "sockopt_buf_lock",
                                      "memfd_hugetlb",
                                      "move_mount_set_group",
                                      "openat2",
                                      "get_rseq_conf",
                                      "ipv6_freebind",
                                      "pagemap_scan",
                                      "timer_cr_ids",
                                      "overlayfs_maps",
                                      "breakpoints",
                                      "pagemap_scan_guard_pages"})
    EXPECT_NE(std::ranges::find(names, name), names.end()) << name;
}

TEST(KernelCheck, ByName) {
  EXPECT_TRUE(check_feature("timens", everything));
  EXPECT_EQ(check_feature("timens", nothing).error().message(),
            "feature timens: this kernel does not have it");
  EXPECT_EQ(check_feature("nosuch", everything).error().kind(), Error::Kind::kBadOption);
}

TEST(KernelCheck, WhatIsNotBuiltIsNotThereHoweverGoodTheKernel) {
  for (const char* name : {"uffd", "uffd-noncoop"}) {
    const auto checked = check_feature(name, everything);
    ASSERT_FALSE(checked) << name;
    EXPECT_THAT(checked.error().message(), HasSubstr("not built"));
  }
}

TEST(KernelCheck, Categories) {
  EXPECT_THAT(missing_features(FeatureCategory::kRequired, everything), IsEmpty());
  EXPECT_THAT(missing_features(FeatureCategory::kExtra, everything), IsEmpty());
  EXPECT_THAT(missing_features(FeatureCategory::kExperimental, nothing), SizeIs(2));
  const auto missing = missing_features(FeatureCategory::kRequired,
                                        [](sys::Feature f) { return f != sys::Feature::kOpenat2; });
  ASSERT_THAT(missing, SizeIs(1));
  EXPECT_THAT(missing[0].message(), HasSubstr("feature openat2: "));
}

TEST(KernelCheck, EitherWayOfTrackingChangesWillDo) {
  const auto lacks_tracking = [](const HasFeature& has) {
    return std::ranges::any_of(missing_features(FeatureCategory::kExtra, has), [](const Error& e) {
      return e.object() == "feature mem_dirty_track";
    });
  };
  EXPECT_FALSE(lacks_tracking([](sys::Feature f) { return f != sys::Feature::kSoftDirty; }));
  EXPECT_FALSE(lacks_tracking([](sys::Feature f) { return f == sys::Feature::kSoftDirty; }));
  EXPECT_TRUE(lacks_tracking([](sys::Feature f) { return f == sys::Feature::kPagemapScan; }));
}

}  // namespace
}  // namespace dormouse::shim
