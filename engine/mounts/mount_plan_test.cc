#include "engine/mounts/mount_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <fcntl.h>
#include <sys/mount.h>

#include "engine/mounts/describe.h"
#include "engine/mounts/runc_mountinfo.h"

namespace dormouse::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PlanMounts : public ::testing::Test {
 protected:
  // What would be saved of these mounts.
  void save(const char* mountinfo) {
    const MountTable table = MountTable::of(mountinfo).value();
    Blockers ignored;
    image_.mounts = describe_mounts(table, {.options = dump_}, ignored).entries;
  }
  Result<MountPlan> plan() {
    const Fd here(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const auto in = images::InputDirectory::open(here.get()).value();
    return plan_mounts({.options = options_, .log = log_, .in = in, .image = image_});
  }
  std::vector<std::string> lines() {
    const auto planned = plan();
    if (!planned) return {planned.error().message()};
    return describe_plan(*planned);
  }
  pb::mnt_entry& entry(std::uint32_t id) {
    for (auto& entry : image_.mounts)
      if (entry.mnt_id() == id) return entry;
    throw std::runtime_error("no such mount");
  }

  CheckpointOptions dump_;
  RestoreOptions options_{};
  Image image_;
  NullLog log_;
};

class PlanRunc : public PlanMounts {
 protected:
  void SetUp() override {
    for (const char* path : {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/systemd"}) {
      dump_.external_mounts.push_back({path, path});
      options_.external_mounts.push_back({path, std::string("/node") + path});
    }
    dump_.external_mounts.push_back({"/proc/keys", "/dev/null"});
    options_.external_mounts.push_back({"/dev/null", "/dev/null"});
    options_.external_mounts.push_back({"/dev/null", "/dev/null"});
    options_.root = "/run/criu-root";
    save(kRuncMountinfo);
  }
};

TEST_F(PlanRunc, FollowsTheTree) {
  EXPECT_THAT(lines(),
              ElementsAre("root 97 at /",                                      //
                          "new 101 at /proc: proc proc ",                      //
                          "new 105 at /dev: tmpfs tmpfs size=65536k,mode=755",  //
                          "new 108 at /dev/pts: devpts devpts gid=5,mode=620,ptmxmode=666",
                          "new 110 at /dev/shm: tmpfs shm size=65536k",  //
                          "new 112 at /dev/mqueue: mqueue mqueue ",      //
                          "new 113 at /sys: sysfs sysfs ",               //
                          "new 114 at /sys/fs/cgroup: tmpfs tmpfs mode=755",
                          "external 115 at /sys/fs/cgroup/cpu: /node/sys/fs/cgroup/cpu",
                          "external 123 at /sys/fs/cgroup/systemd: /node/sys/fs/cgroup/systemd",
                          "bind 44 at /proc/bus: bus of 101",     //
                          "bind 58 at /proc/sys: sys of 101",     //
                          "new 59 at /proc/acpi: tmpfs tmpfs ",   //
                          "external 60 at /proc/keys: /dev/null",  //
                          "new 62 at /sys/firmware: tmpfs tmpfs "));
}

TEST_F(PlanRunc, CarriesOptionsAndContent) {
  const auto planned = plan();
  ASSERT_TRUE(planned);
  const auto& steps = planned->steps;
  EXPECT_EQ(steps[0].kind, MountStep::Kind::kRoot);
  EXPECT_EQ(steps[2].attributes, std::uint64_t{MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME});
  EXPECT_EQ(steps[2].archive, 41u);
  EXPECT_EQ(steps[3].parent, 2);
  EXPECT_EQ(steps[3].target, "pts");
  EXPECT_EQ(steps[6].super_flags, unsigned{MS_RDONLY});
  EXPECT_EQ(steps[8].target, "cpu");
  EXPECT_THAT(steps[1].copies, ElementsAre(10, 11));
  EXPECT_FALSE(steps[1].archive);
  EXPECT_THAT(planned->groups, IsEmpty());
}

TEST_F(PlanRunc, AsksForWhatIsMissing) {
  options_.external_mounts.pop_back();
  options_.external_mounts.pop_back();
  const auto planned = plan();
  ASSERT_FALSE(planned);
  EXPECT_EQ(planned.error().kind(), Error::Kind::kBadOption);
  EXPECT_THAT(planned.error().message(), HasSubstr("mount /proc/keys (id 60)"));
  EXPECT_THAT(planned.error().message(), HasSubstr("--external mnt[/dev/null]:PATH"));
}

TEST_F(PlanRunc, NeedsARoot) {
  options_.root.clear();
  EXPECT_THAT(lines(), ElementsAre(HasSubstr("--root")));
}

TEST_F(PlanMounts, HasNothingToDoWithoutAMountNamespace) { EXPECT_THAT(lines(), IsEmpty()); }

TEST_F(PlanRunc, HasNothingToDoInANamespaceThatIsJoined) {
  options_.join_namespaces = {{.kind = "mnt", .path = "/proc/1/ns/mnt", .extra = ""}};
  EXPECT_THAT(lines(), IsEmpty());
}

class PlanTree : public PlanMounts {
 protected:
  void SetUp() override { options_.root = "/r"; }
};

TEST_F(PlanTree, PutsCoveredMountsFirst) {
  save("1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
       "2 1 0:2 / /x rw,relatime - tmpfs a rw\n"
       "3 1 0:3 / /x/y rw,relatime - tmpfs b rw\n"
       "4 2 0:4 / /x rw,relatime - tmpfs c rw\n"
       "5 4 0:5 / /x/y rw,relatime - tmpfs d rw\n");
  EXPECT_THAT(lines(), ElementsAre("root 1 at /", "new 3 at /x/y: tmpfs b ", "new 2 at /x: tmpfs a ",
                                   "new 4 at /x: tmpfs c ", "new 5 at /x/y: tmpfs d "));
  EXPECT_EQ(plan()->steps[3].target, "");
}

TEST_F(PlanTree, CopiesWhatIsAlreadyThere) {
  dump_.external_mounts = {{"/data", "d"}};
  options_.external_mounts = {{"d", "/srv/d"}};
  save("1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
       "2 1 8:1 /r/etc /etc ro,relatime - ext4 /dev/sda rw\n"
       "3 1 0:3 /sub /a rw,relatime - tmpfs t rw\n"
       "4 1 0:3 / /b rw,relatime - tmpfs t rw\n"
       "5 1 8:2 /d /data rw,relatime - xfs /dev/sdb rw\n"
       "6 1 8:2 /d/in /in rw,relatime - xfs /dev/sdb rw\n");
  EXPECT_THAT(lines(), ElementsAre("root 1 at /", "bind 2 at /etc: etc of 1", "new 4 at /b: tmpfs t ",
                                   "bind 3 at /a: sub of 4", "external 5 at /data: /srv/d",
                                   "bind 6 at /in: in of 5"));
}

TEST_F(PlanTree, FindsTheNodesCounterpart) {
  save("1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
       "2 1 8:2 /x /x rw,relatime - ext4 /dev/sdb rw\n");
  entry(2).set_ext_key(std::string(kAutoExternal));
  entry(2).set_source("/data/x");
  EXPECT_THAT(lines(), ElementsAre(HasSubstr("mnt[]")));
  options_.externals = {"mnt[]:ms"};
  EXPECT_THAT(lines(), ElementsAre("root 1 at /", "external 2 at /x: /data/x"));
}

TEST_F(PlanTree, FindsExternalDevices) {
  dump_.externals = {"dev[8/2]:data"};
  save("1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
       "2 1 8:2 / /x rw,relatime - xfs /dev/sdb rw,attr2\n");
  EXPECT_THAT(lines(), ElementsAre(HasSubstr("dev[data]")));
  options_.externals = {"dev[data]:/dev/loop7"};
  EXPECT_THAT(lines(), ElementsAre("root 1 at /", "new 2 at /x: xfs /dev/loop7 attr2"));
}

TEST_F(PlanTree, ReadsOldImages) {
  save("1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
       "2 1 8:2 /x /x rw,relatime - ext4 /dev/sdb rw\n"
       "3 1 0:2 / /sys ro,nosuid,relatime - sysfs s ro\n");
  entry(2).set_ext_mount(true);
  entry(2).set_root("cookie");
  entry(3).clear_sb_flags();
  options_.external_mounts = {{"cookie", "/data"}};
  EXPECT_THAT(lines(), ElementsAre("root 1 at /", "external 2 at /x: /data", "new 3 at /sys: sysfs s "));
  EXPECT_EQ(plan()->steps[2].super_flags, unsigned{MS_RDONLY});
  EXPECT_EQ(plan()->steps[2].attributes, std::uint64_t{MOUNT_ATTR_NOSUID});
}

TEST_F(PlanTree, OrdersPeerGroups) {
  save("1 0 8:1 /r / rw,relatime master:3 - ext4 /dev/sda rw\n"
       "2 1 0:2 /sub /a rw,relatime shared:7 master:9 - tmpfs t rw\n"
       "3 1 0:2 / /b rw,relatime shared:9 - tmpfs t rw\n"
       "4 1 0:2 / /c rw,relatime shared:9 - tmpfs t rw\n"
       "5 1 0:2 / /d rw,relatime master:9 - tmpfs t rw\n"
       "6 1 0:2 / /e rw,relatime master:7 - tmpfs t rw\n");
  // /e shows more than its master does.
  EXPECT_THAT(lines(), ElementsAre(HasSubstr("mount /e (id 6)")));
  entry(6).set_root("/sub/deeper");
  const auto planned = plan();
  ASSERT_TRUE(planned) << planned.error().message();
  ASSERT_EQ(planned->groups.size(), 5u);
  const auto group = [&](std::size_t i) { return planned->groups[i]; };
  const auto id = [&](int step) { return planned->steps[step].id; };
  EXPECT_TRUE(planned->steps[0].keep_master);
  for (std::size_t i = 0; i < 5; ++i) {
    if (group(i).master_id == 3) {
      EXPECT_EQ(group(i).master_step, -1);
    } else if (group(i).shared_id == 9) {
      ASSERT_EQ(group(i).members.size(), 2u);
    } else if (group(i).master_id == 7) {
      EXPECT_EQ(id(group(i).master_step), 2u);
      EXPECT_EQ(i, 4u) << "it needs a group that needs a group";
    } else {
      EXPECT_EQ(group(i).master_id, 9u);
      EXPECT_EQ(id(group(i).master_step), 3u);
    }
  }
}

TEST_F(PlanTree, RefusesDamage) {
  const char* const tree =
      "1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
      "2 1 0:2 / /a rw,relatime - tmpfs t rw\n"
      "3 2 0:3 / /a/b rw,relatime - tmpfs t rw\n";
  const auto refused = [&] {
    const auto planned = plan();
    return !planned && planned.error().kind() == Error::Kind::kCorruptImage;
  };
  save(tree);
  entry(3).set_mnt_id(2);
  EXPECT_TRUE(refused()) << "an id twice";
  save(tree);
  entry(2).set_parent_mnt_id(77);
  EXPECT_TRUE(refused()) << "no parent";
  save(tree);
  entry(3).set_mountpoint("/elsewhere");
  EXPECT_TRUE(refused()) << "not below its parent";
  save(tree);
  entry(3).set_mountpoint("relative");
  EXPECT_TRUE(refused()) << "not absolute";
  save(tree);
  entry(1).set_parent_mnt_id(3);
  EXPECT_TRUE(refused()) << "a circle";
  save(tree);
  entry(3).set_parent_mnt_id(1);
  entry(3).set_mountpoint("/a");
  EXPECT_TRUE(refused()) << "two mounts in one place";
  save(tree);
  entry(2).set_shared_id(5);
  entry(3).set_shared_id(5);
  EXPECT_TRUE(refused()) << "peers on two file systems";
  save(tree);
  entry(2).set_shared_id(5);
  entry(2).set_master_id(5);
  EXPECT_TRUE(refused()) << "a group that follows itself";
}

TEST_F(PlanTree, RefusesWhatItCannotMake) {
  save("1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
       "2 1 8:2 / /x rw,relatime - xfs /dev/sdb rw\n");
  EXPECT_THAT(lines(), ElementsAre(HasSubstr("mount /x (id 2)")));
  save("1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
       "2 1 8:1 /else /x rw,relatime - ext4 /dev/sda rw\n");
  EXPECT_THAT(lines(), ElementsAre(HasSubstr("mount /x (id 2)")));
  save("1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
       "2 1 8:1 /r/f//deleted /x rw,relatime - ext4 /dev/sda rw\n");
  EXPECT_THAT(lines(), ElementsAre(HasSubstr("deleted")));
  // Each is a copy of the other's file system and mounted on it.
  save("1 0 8:1 /r / rw,relatime - ext4 /dev/sda rw\n"
       "2 1 0:2 /sub /x rw,relatime - tmpfs t rw\n"
       "3 2 0:2 / /x/y rw,relatime - tmpfs t rw\n");
  EXPECT_THAT(lines(), ElementsAre(HasSubstr("needed before")));
}

}  // namespace
}  // namespace dormouse::engine
