#include "shim/oci_cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "shim/testing.h"

namespace dormouse::shim {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr std::string_view kCgroup =
    "9:name=systemd:/\n4:memory:/group/a\n1:cpu,cpuacct:/\n7:hugetlb:/\n0::/own\n";
constexpr std::string_view kMountinfo =
    "20 1 0:20 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "21 20 0:21 / /sys/fs/cgroup/cpu,cpuacct rw shared:3 - cgroup cgroup rw,cpu,cpuacct\n"
    "22 20 0:22 /group /mnt/part rw - cgroup cgroup rw,memory\n"
    "23 20 0:22 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "24 20 0:23 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
    "25 20 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

TEST(CgroupMounts, HierarchiesAreFoundWhereTheyAreMounted) {
  const auto mounts = parse_cgroup_mounts(kCgroup, kMountinfo);
  ASSERT_TRUE(mounts);
  ASSERT_THAT(*mounts, SizeIs(4)) << "hugetlb is mounted nowhere";
  EXPECT_THAT((*mounts)[0].controllers, ElementsAre("name=systemd"));
  EXPECT_EQ((*mounts)[1].mount_point, "/sys/fs/cgroup/memory") << "a whole hierarchy is better than a part";
  EXPECT_EQ((*mounts)[1].own_path, "/group/a");
  EXPECT_THAT((*mounts)[2].controllers, ElementsAre("cpu", "cpuacct"));
  EXPECT_TRUE((*mounts)[3].unified());
  EXPECT_FALSE(only_unified(*mounts));
}

TEST(CgroupMounts, AUnifiedNodeMayStillHaveSystemdsOwnHierarchy) {
  const auto mounts = parse_cgroup_mounts("1:name=systemd:/\n0::/own\n", kMountinfo);
  ASSERT_TRUE(mounts);
  EXPECT_TRUE(only_unified(*mounts));
}

TEST(CgroupMounts, DirectoriesCountFromWhatTheMountShows) {
  EXPECT_EQ((CgroupMount{{"cpu"}, "/c/cpu", "/", "/"}).directory("/a/b"), "/c/cpu/a/b");
  EXPECT_EQ((CgroupMount{{"cpu"}, "/c/cpu", "/", "/"}).directory("/"), "/c/cpu");
  EXPECT_EQ((CgroupMount{{"cpu"}, "/c/cpu", "/docker/x", "/"}).directory("/docker/x/a"), "/c/cpu/a");
  EXPECT_EQ((CgroupMount{{"cpu"}, "/c/cpu", "/docker/x", "/"}).directory("/elsewhere"), "/c/cpu");
}

// A directory that looks like two v1 hierarchies with the container's cgroups already made, so that
// the files of the kernel can be ours.
struct FakeNode {
  FakeNode() {
    for (const char* directory : {"devices/web", "memory/web", "pids"}) fs::create_directories(fake.path(directory));
    for (const char* file : {"devices/web/devices.allow", "devices/web/devices.deny", "memory/web/memory.limit_in_bytes",
                             "devices/web/cgroup.procs", "memory/web/cgroup.procs"})
      fake.write(file, "");
  }
  std::vector<CgroupMount> mounts() const {
    return {{{"devices"}, fake.path("devices"), "/", "/"}, {{"memory"}, fake.path("memory"), "/", "/"}};
  }
  TemporaryDirectory fake;
};

TEST(ContainerCgroups, LimitsAreWrittenIntoTheControllersDirectories) {
  FakeNode node;
  oci::Config config;
  config.resources.memory_limit = 1048576;
  const auto cgroups = ContainerCgroups::make(node.mounts(), config, "web");
  ASSERT_TRUE(cgroups) << cgroups.error().message();
  EXPECT_THAT(cgroups->paths(), ElementsAre(Pair("devices", node.fake.path("devices/web")), Pair("memory", node.fake.path("memory/web"))));
  EXPECT_EQ(node.fake.read("memory/web/memory.limit_in_bytes"), "1048576");
  EXPECT_EQ(cgroups->roots().at(0).controller, "devices");
  EXPECT_EQ(cgroups->roots().at(0).path, "/web");
  EXPECT_FALSE(cgroups->roots().at(0).every_controller);
}

TEST(ContainerCgroups, AMissingControllerIsNamedWithTheLimit) {
  FakeNode node;
  oci::Config config;
  config.resources.pids_limit = 5;
  const auto cgroups = ContainerCgroups::make(node.mounts(), config, "web");
  ASSERT_FALSE(cgroups);
  EXPECT_THAT(cgroups.error().message(),
              AllOf(HasSubstr("cgroup limit pids.max = 5"), HasSubstr("no cgroup controller 'pids'")));
}

TEST(ContainerCgroups, ALimitThatTheKernelRefusesIsNamed) {
  FakeNode node;
  oci::Config config;
  config.resources.memory_swappiness = 5;
  const auto cgroups = ContainerCgroups::make(node.mounts(), config, "web");
  ASSERT_FALSE(cgroups);
  EXPECT_THAT(cgroups.error().message(), HasSubstr("cgroup limit memory.swappiness = 5"));
}

TEST(ContainerCgroups, SomebodyElsesCgroupIsNotTaken) {
  FakeNode node;
  node.fake.write("memory/web/cgroup.procs", "4711\n");
  const auto cgroups = ContainerCgroups::make(node.mounts(), {}, "web");
  ASSERT_FALSE(cgroups);
  EXPECT_THAT(cgroups.error().message(), HasSubstr("process 4711 lives there already"));
}

TEST(ContainerCgroups, WhatWasMadeForAFailureIsRemoved) {
  FakeNode node;
  oci::Config config;
  config.cgroups_path = "/pods/one";  // nothing of it is there: the first limit fails
  EXPECT_FALSE(ContainerCgroups::make(node.mounts(), config, "web"));
  EXPECT_FALSE(node.fake.has("devices/pods"));
  EXPECT_FALSE(node.fake.has("memory/pods"));
  EXPECT_TRUE(node.fake.has("devices/web"));
}

TEST(ContainerCgroups, TheHierarchysRootIsNoPlaceForAContainer) {
  FakeNode node;
  oci::Config config;
  config.cgroups_path = "/";
  const auto cgroups = ContainerCgroups::make(node.mounts(), config, "web");
  ASSERT_FALSE(cgroups);
  EXPECT_THAT(cgroups.error().message(), HasSubstr("linux.cgroupsPath"));
}

TEST(Freezer, BothVersionsAreRead) {
  TemporaryDirectory fake;
  fs::create_directories(fake.path("v1"));
  fs::create_directories(fake.path("v2"));
  const CgroupPaths v1 = {{"freezer", fake.path("v1")}}, v2 = {{"", fake.path("v2")}};
  EXPECT_FALSE(is_frozen(v1));
  fake.write("v1/freezer.state", "FREEZING\n");
  fake.write("v2/cgroup.freeze", "1\n");
  EXPECT_TRUE(is_frozen(v1));
  EXPECT_TRUE(is_frozen(v2));
  EXPECT_TRUE(thaw(v1));
  EXPECT_THAT(fake.read("v1/freezer.state"), HasSubstr("THAWED"));
  EXPECT_FALSE(is_frozen({}));
}

TEST(CgroupProcesses, ThoseOfNestedGroupsCount) {
  TemporaryDirectory fake;
  fs::create_directories(fake.path("web/inner"));
  fake.write("web/cgroup.procs", "12\n10\n");
  fake.write("web/inner/cgroup.procs", "11\n12\n");
  EXPECT_THAT(processes_in({{"", fake.path("web")}, {"cpu", fake.path("web")}}).value(), ElementsAre(10, 11, 12));
  EXPECT_THAT(processes_in({{"", fake.path("gone")}}).value(), IsEmpty());
}

}  // namespace
}  // namespace dormouse::shim
