#include "shim/oci_rootfs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "shim/testing.h"

namespace dormouse::shim {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

struct Rootfs {
  Rootfs() { fs::create_directories(path("rootfs")); }
  std::string path(const std::string& name) const { return directory.path(name); }
  int open() {
    fd = Fd(::open(path("rootfs").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    return fd.get();
  }
  void link(const std::string& target, const std::string& name) { fs::create_symlink(target, path("rootfs/" + name)); }
  Result<> make(const std::vector<oci::Mount>& mounts) { return make_mount_points(path("rootfs"), mounts); }

  TemporaryDirectory directory;
  Fd fd;
};

TEST(ResolveInRoot, FollowsLinksButNeverOut) {
  Rootfs root;
  fs::create_directories(root.path("rootfs/run/lock"));
  fs::create_directories(root.path("rootfs/var"));
  root.link("/run", "var/run");
  root.link("../../../../run", "up");
  root.link("up", "twice");
  const int fd = root.open();
  EXPECT_EQ(resolve_in_root(fd, "/var/run/lock"), "/run/lock");
  EXPECT_EQ(resolve_in_root(fd, "/up/x"), "/run/x");
  EXPECT_EQ(resolve_in_root(fd, "twice"), "/run");
  EXPECT_EQ(resolve_in_root(fd, "/../.."), "/");
  EXPECT_EQ(resolve_in_root(fd, "/var/run/../.."), "/");
  EXPECT_EQ(resolve_in_root(fd, "/not/there/./at//all"), "/not/there/at/all");
}

TEST(ResolveInRoot, ALoopEnds) {
  Rootfs root;
  root.link("b", "a");
  root.link("a", "b");
  EXPECT_THAT(resolve_in_root(root.open(), "/a/c"), HasSubstr("/c"));
}

TEST(MountPoints, AreMadeForFilesAndDirectories) {
  Rootfs root;
  const std::string file = root.directory.write("resolv.conf", "x");
  ASSERT_TRUE(root.make({{"/proc", "proc", "proc", {}}, {"/etc/resolv.conf", "bind", file, {}},
                         {"/srv/deep/data", "", root.directory.path(), {"rbind"}}}));
  EXPECT_TRUE(fs::is_directory(root.path("rootfs/proc")));
  EXPECT_TRUE(fs::is_regular_file(root.path("rootfs/etc/resolv.conf")));
  EXPECT_TRUE(fs::is_directory(root.path("rootfs/srv/deep/data")));
  EXPECT_TRUE(root.make({{"/proc", "proc", "proc", {}}})) << "what is there is fine";
}

TEST(MountPoints, InFileSystemsOfTheContainerAreLeftToTheEngine) {
  Rootfs root;
  ASSERT_TRUE(root.make({{"/dev", "tmpfs", "tmpfs", {}}, {"/dev/shm", "tmpfs", "shm", {}},
                         {"/sys/fs/cgroup", "cgroup", "cgroup", {}}}));
  EXPECT_TRUE(fs::exists(root.path("rootfs/dev")));
  EXPECT_FALSE(fs::exists(root.path("rootfs/dev/shm")));
  EXPECT_FALSE(fs::exists(root.path("rootfs/sys")));
}

TEST(MountPoints, InABindMountAreMadeInItsSource) {
  Rootfs root;
  fs::create_directories(root.path("volume"));
  ASSERT_TRUE(root.make({{"/data", "bind", root.path("volume"), {}}, {"/data/cache", "tmpfs", "tmpfs", {}}}));
  EXPECT_TRUE(fs::is_directory(root.path("volume/cache")));
  EXPECT_FALSE(fs::exists(root.path("rootfs/data/cache")));
}

TEST(MountPoints, LinksDoNotLeadOutOfTheRoot) {
  Rootfs root;
  fs::create_directories(root.path("outside"));
  root.link(root.path("outside"), "evil");
  // Inside of the root that absolute target does not exist, so the link dangles.
  EXPECT_FALSE(root.make({{"/evil/made", "tmpfs", "tmpfs", {}}}));
  EXPECT_TRUE(fs::is_empty(root.path("outside")));
}

TEST(MountPoints, AMissingSourceIsNamed) {
  Rootfs root;
  const auto made = root.make({{"/data", "bind", root.path("gone"), {}}});
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message(), HasSubstr("bind mount of " + root.path("gone") + " on /data"));
}

}  // namespace
}  // namespace dormouse::shim
