#include "engine/mounts/describe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include "engine/mounts/runc_mountinfo.h"

namespace dormouse::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Describe : public ::testing::Test {
 protected:
  MountsDescription describe(const char* mountinfo) {
    table_ = MountTable::of(mountinfo).value();
    return describe_mounts(table_, surroundings_, blockers_);
  }
  static const pb::mnt_entry& entry(const MountsDescription& description, std::uint32_t id) {
    for (const auto& entry : description.entries)
      if (entry.mnt_id() == id) return entry;
    throw std::runtime_error("no such mount");
  }
  static std::vector<std::uint32_t> ids(const std::vector<const proc::MountInfo*>& mounts) {
    std::vector<std::uint32_t> result;
    for (const auto* mount : mounts) result.push_back(mount->id);
    return result;
  }
  std::vector<std::string> messages() {
    std::vector<std::string> result;
    for (const auto& error : std::move(blockers_).take()) result.push_back(error.message());
    return result;
  }

  CheckpointOptions options_;
  Surroundings surroundings_{.options = options_, .owner = "pid 1 (sh)"};
  MountTable table_;
  Blockers blockers_;
};

class DescribeRunc : public Describe {
 protected:
  void SetUp() override {
    for (const char* path : {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/systemd"})
      options_.external_mounts.push_back({path, path});
    options_.external_mounts.push_back({"/proc/keys", "/dev/null"});
    surroundings_.outside_devpts = image_device(0, 26);
  }
};

TEST_F(DescribeRunc, MatchesTheReference) {
  const auto description = describe(kRuncMountinfo);
  EXPECT_THAT(messages(), ElementsAre());
  ASSERT_EQ(description.entries.size(), 15u);
  EXPECT_EQ(description.entries.front().mnt_id(), 62u) << "the last mount comes first";
  EXPECT_EQ(description.entries.back().mnt_id(), 97u);

  const auto& pts = entry(description, 108);
  EXPECT_EQ(pts.fstype(), unsigned{pb::DEVPTS});
  EXPECT_EQ(pts.options(), "gid=5,mode=620,ptmxmode=666,newinstance");
  EXPECT_EQ(pts.flags(), 0x20000au);
  EXPECT_EQ(pts.root_dev(), 55u);
  EXPECT_EQ(pts.parent_mnt_id(), 105u);
  EXPECT_EQ(pts.mountpoint(), "/dev/pts");
  EXPECT_TRUE(pts.has_shared_id() && pts.has_master_id() && pts.has_sb_flags());

  const auto& keys = entry(description, 60);
  EXPECT_EQ(keys.ext_key(), "/dev/null");
  EXPECT_EQ(keys.root(), "/null");
  EXPECT_EQ(keys.flags(), 0x1000002u);

  const auto& sys = entry(description, 113);
  EXPECT_EQ(sys.sb_flags(), 1u);
  EXPECT_EQ(sys.options(), "");
  EXPECT_FALSE(sys.has_ext_key() || sys.has_deleted() || sys.has_internal_sharing() || sys.has_fsname());

  const auto& root = entry(description, 97);
  EXPECT_EQ(root.fstype(), unsigned{pb::UNSUPPORTED});
  EXPECT_EQ(root.root_dev(), 254u << 20);
  EXPECT_EQ(root.root(), "/bundle/rootfs");

  EXPECT_EQ(entry(description, 115).root(), "/box");
  EXPECT_THAT(ids(description.archives), ElementsAre(105u, 110u, 114u, 59u, 62u));
  EXPECT_THAT(ids(description.must_be_empty), ElementsAre());
}

TEST_F(DescribeRunc, TakesExternalMountsInEitherForm) {
  options_.external_mounts.clear();
  options_.externals = {"mnt[/proc/keys]:masked", "mnt[/sys/fs/cgroup/cpu]:", "mnt[/sys/fs/cgroup/systemd]:x"};
  const auto description = describe(kRuncMountinfo);
  EXPECT_THAT(messages(), ElementsAre());
  EXPECT_EQ(entry(description, 60).ext_key(), "masked");
  EXPECT_TRUE(entry(description, 115).has_ext_key());
}

TEST_F(DescribeRunc, NamesEveryMountThatNobodyDeclared) {
  options_.external_mounts.clear();
  describe(kRuncMountinfo);
  EXPECT_THAT(messages(), ElementsAre(AllOf(HasSubstr("mount /sys/fs/cgroup/cpu (cgroup, id 115) of pid 1 (sh)"),
                                            HasSubstr("--external mnt[/sys/fs/cgroup/cpu]")),
                                      HasSubstr("mount /sys/fs/cgroup/systemd")));
}

TEST_F(DescribeRunc, HidesCgroupPathsInsideACgroupNamespace) {
  options_.external_mounts.clear();
  surroundings_.own_cgroup_namespace = true;
  const auto description = describe(kRuncMountinfo);
  EXPECT_THAT(messages(), ElementsAre());
  EXPECT_EQ(entry(description, 115).root(), "/");
}

TEST_F(Describe, AcceptsBindsOfTheRoot) {
  describe("1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
           "2 1 8:1 /r/etc /etc ro,relatime - ext4 /dev/sda rw\n");
  EXPECT_THAT(messages(), ElementsAre());
}

TEST_F(Describe, RefusesBindsOfWhatIsOutside) {
  describe("1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
           "2 1 8:1 /srv /srv rw,relatime - ext4 /dev/sda rw\n");
  EXPECT_THAT(messages(), ElementsAre(HasSubstr("mount /srv (ext4, id 2) of pid 1 (sh): it shows /srv of")));
}

TEST_F(Describe, AcceptsBindsOfAnExternalMount) {
  options_.external_mounts = {{"/srv", "data"}};
  describe("1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
           "2 1 8:1 /srv /srv rw,relatime - ext4 /dev/sda rw\n"
           "3 1 8:1 /srv/in /in rw,relatime - ext4 /dev/sda rw\n");
  EXPECT_THAT(messages(), ElementsAre());
}

TEST_F(Describe, RefusesFileSystemsItCannotMake) {
  describe("1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
           "2 1 8:2 / /disk rw,relatime - xfs /dev/sdb rw\n"
           "3 1 0:7 / /fuse rw,relatime - fuse.sshfs host: rw,user_id=0\n");
  EXPECT_THAT(messages(), ElementsAre(AllOf(HasSubstr("mount /disk"), HasSubstr("xfs"), HasSubstr("dev[8/2]")),
                                      HasSubstr("mount /fuse")));
}

TEST_F(Describe, MountsEnabledFileSystemsAndExternalDevices) {
  options_.enabled_filesystems = {"hugetlbfs,ramfs"};
  options_.externals = {"dev[8/2]:data"};
  const auto description = describe(
      "1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
      "2 1 8:2 / /disk rw,relatime - xfs /dev/sdb rw,attr2\n"
      "3 1 0:7 / /ram rw,relatime - ramfs none rw\n");
  EXPECT_THAT(messages(), ElementsAre());
  EXPECT_EQ(entry(description, 2).ext_key(), kExternalDevice);
  EXPECT_EQ(entry(description, 2).source(), "dev[data]");
  EXPECT_EQ(entry(description, 2).fsname(), "xfs");
  EXPECT_EQ(entry(description, 3).fstype(), unsigned{pb::AUTO});
}

TEST_F(Describe, RefusesDeletedSources) {
  const auto description = describe(
      "1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
      "2 1 8:1 /r/f//deleted /etc/hosts rw,relatime - ext4 /dev/sda rw\n");
  EXPECT_EQ(entry(description, 2).root(), "/r/f");
  EXPECT_TRUE(entry(description, 2).deleted());
  EXPECT_THAT(messages(), ElementsAre(HasSubstr("deleted")));
}

TEST_F(Describe, RecognisesMountsOfTheNode) {
  options_.auto_external_mounts = true;
  const auto outside = MountTable::of(
      "10 9 8:1 / / rw,relatime - ext4 /dev/sda rw\n"
      "11 10 8:2 / /data rw,relatime shared:7 - ext4 /dev/sdb rw\n");
  surroundings_.outside = &*outside;
  const auto description = describe(
      "1 0 0:50 / / rw,relatime - overlay overlay rw\n"
      "2 1 8:1 /srv/x /x rw,relatime - ext4 /dev/sda rw\n"
      "3 1 8:2 /y /y rw,relatime - ext4 /dev/sdb rw\n"
      "4 1 8:2 / /slave rw,relatime master:7 - ext4 /dev/sdb rw\n");
  EXPECT_EQ(entry(description, 2).ext_key(), kAutoExternal);
  EXPECT_EQ(entry(description, 2).source(), "/srv/x");
  EXPECT_EQ(entry(description, 3).source(), "/data/y");
  EXPECT_FALSE(entry(description, 4).has_ext_key());
  EXPECT_FALSE(messages().empty()) << "its master is outside, and that was not allowed";

  options_.external_masters = true;
  EXPECT_EQ(entry(describe("1 0 0:50 / / rw,relatime - overlay overlay rw\n"
                           "4 1 8:2 / /slave rw,relatime master:7 - ext4 /dev/sdb rw\n"),
                  4).source(),
            "/data");
  EXPECT_THAT(messages(), ElementsAre());
}

TEST_F(Describe, AcceptsAMasterThatTheRootHasToo) {
  describe("1 0 8:1 /r / rw,relatime master:5 - ext4 /dev/sda rw\n"
           "2 1 8:1 /r/etc /etc rw,relatime master:5 - ext4 /dev/sda rw\n"
           "3 1 0:3 / /run rw,relatime shared:9 - tmpfs run rw\n"
           "4 1 0:3 / /follow rw,relatime master:9 - tmpfs run rw\n");
  EXPECT_THAT(messages(), ElementsAre());
}

TEST_F(Describe, RefusesMastersOutOfReach) {
  const auto description = describe(
      "1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
      "3 1 0:3 / /run rw,relatime shared:9 master:4 - tmpfs run rw\n");
  EXPECT_EQ(entry(description, 3).flags(), unsigned{MS_RELATIME | MS_SHARED | MS_SLAVE});
  EXPECT_THAT(messages(), ElementsAre(HasSubstr("peer group 4")));
}

TEST_F(Describe, ReadsCoveredContentFromAnotherMountOfIt) {
  const auto covered = describe(
      "1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
      "2 1 0:3 / /run rw,relatime - tmpfs run rw\n"
      "3 2 0:4 / /run rw,relatime - tmpfs over rw\n"
      "4 1 0:3 / /again rw,relatime - tmpfs run rw\n");
  EXPECT_THAT(messages(), ElementsAre());
  EXPECT_THAT(ids(covered.archives), ElementsAre(3u, 4u));
}

TEST_F(Describe, WantsProofOfEmptiness) {
  const auto description = describe(
      "1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
      "2 1 0:3 / /sys/fs/pstore rw,relatime - pstore pstore rw\n");
  EXPECT_THAT(messages(), ElementsAre());
  EXPECT_THAT(ids(description.must_be_empty), ElementsAre(2u));
}

TEST_F(Describe, ReadsCoveredContentAllTheSame) {
  const auto covered = describe(
      "1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
      "2 1 0:3 / /run rw,relatime - tmpfs run rw\n"
      "3 2 0:4 / /run rw,relatime - tmpfs over rw\n");
  EXPECT_THAT(messages(), ElementsAre());
  EXPECT_THAT(ids(covered.archives), ElementsAre(2u, 3u));
}

TEST_F(Describe, LeavesOutWhatTheCallerSkips) {
  options_.skip_mounts = {"/skip"};
  const auto description = describe(
      "1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
      "2 1 8:9 / /skip rw,relatime - xfs /dev/sdz rw\n"
      "3 1 0:6 / /sys/kernel/debug rw,relatime - debugfs debugfs rw\n"
      "4 3 0:7 / /sys/kernel/debug/tracing rw,relatime - tracefs tracefs rw\n");
  EXPECT_THAT(messages(), ElementsAre());
  EXPECT_EQ(description.entries.size(), 2u);
}

TEST_F(Describe, RefusesMountsWithoutTheirParent) {
  options_.skip_mounts = {"/skip"};
  describe("1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
           "2 1 8:9 / /skip rw,relatime - xfs /dev/sdz rw\n"
           "3 2 0:6 / /skip/in rw,relatime - tmpfs t rw\n");
  EXPECT_THAT(messages(), ElementsAre(HasSubstr("mount /skip/in")));
}

}  // namespace
}  // namespace dormouse::engine
