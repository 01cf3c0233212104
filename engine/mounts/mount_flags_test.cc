#include "engine/mounts/mount_flags.h"

#include <gtest/gtest.h>
#include <sys/mount.h>

namespace dormouse::engine {
namespace {

TEST(MountFlags, ReadsTheKernelsWords) {
  EXPECT_EQ(mount_flags("rw,relatime").value(), unsigned{MS_RELATIME});
  EXPECT_EQ(mount_flags("ro,nosuid,nodev,noexec,relatime").value(), 0x20000fu);
  EXPECT_EQ(mount_flags("rw,nosuid").value(), 0x1000002u) << "no word about times is strictatime";
  EXPECT_EQ(mount_flags("rw,noatime,nodiratime,nosymfollow").value(),
            unsigned{MS_NOATIME | MS_NODIRATIME | MS_NOSYMFOLLOW});
}

TEST(MountFlags, RefusesWhatItDoesNotKnow) {
  const auto flags = mount_flags("rw,relatime,idmapped");
  ASSERT_FALSE(flags);
  EXPECT_EQ(flags.error().kind(), Error::Kind::kUnsupported);
  EXPECT_NE(flags.error().message().find("idmapped"), std::string::npos);
}

TEST(MountFlags, SplitsSuperOptions) {
  const auto [flags, rest] = super_options("ro,dirsync,size=64k,mode=755", {}, {});
  EXPECT_EQ(flags, unsigned{MS_RDONLY | MS_DIRSYNC});
  EXPECT_EQ(rest, "size=64k,mode=755");
  EXPECT_EQ(super_options("rw", {}, {}).rest, "");
}

TEST(MountFlags, TranslatesOwnersInOptions) {
  const MapId uid = [](std::uint32_t id) { return id - 100'000; };
  const MapId gid = [](std::uint32_t id) { return id - 200'000; };
  EXPECT_EQ(super_options("rw,uid=100001,gid=200005,mode=620", uid, gid).rest, "uid=1,gid=5,mode=620");
}

TEST(MountFlags, BecomesAttributes) {
  EXPECT_EQ(mount_attributes(MS_RELATIME), 0u);
  EXPECT_EQ(mount_attributes(0x20000f), 0xfu);
  EXPECT_EQ(mount_attributes(MS_STRICTATIME | MS_NOSUID), 0x22u);
  EXPECT_EQ(mount_attributes(MS_NOATIME | MS_SHARED | MS_SLAVE), 0x10u);
  EXPECT_EQ(mount_attributes(~0u) & ~all_mount_attributes(), 0u);
}

TEST(MountFlags, SeparatesFlagsOfOldImages) {
  const auto [mount, super] = split_flags(MS_RDONLY | MS_NOSUID | MS_RELATIME | MS_SHARED);
  EXPECT_EQ(mount, unsigned{MS_NOSUID | MS_RELATIME | MS_SHARED});
  EXPECT_EQ(super, unsigned{MS_RDONLY});
}

TEST(MountFlags, SplitsOptionsWithQuotes) {
  const std::vector<OptionWord> expected{
      {"context", "system_u:object_r:t:s0:c1,c2"}, {"inode64", std::nullopt}, {"size", "1k"}, {"name", ""}};
  EXPECT_EQ(split_options("context=\"system_u:object_r:t:s0:c1,c2\",inode64,size=1k,name="), expected);
  EXPECT_TRUE(split_options("").empty());
}

TEST(MountFlags, ReplacesLabels) {
  EXPECT_EQ(with_label("context=\"u:r:t:s0:c1,c2\",inode64,size=1k", "u:r:t:s0:c7,c8"),
            "context=\"u:r:t:s0:c7,c8\",inode64,size=1k");
  EXPECT_EQ(with_label("size=1k", "u:r:t:s0"), "size=1k");
}

}  // namespace
}  // namespace dormouse::engine
