#include "cgroups/layout.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include "cgroups/testing.h"
#include "kernel/file.h"

namespace dormouse::cgroups {
namespace {

constexpr std::string_view kCgroup =
    "5:name=systemd:/user\n4:cpu,cpuacct:/a\n3:memory:/deep/own\n0::/init.scope\n";

TEST(Layout, NamesControllersAndOwnPaths) {
  const auto layout = Layout::parse(kCgroup, "").value();
  ASSERT_EQ(layout.hierarchies().size(), 4u);
  EXPECT_EQ(layout.find("cpuacct")->name, "cpu,cpuacct");
  EXPECT_EQ(layout.find("cpu"), layout.find("cpuacct"));
  EXPECT_EQ(layout.find("memory")->own_path, "/deep/own");
  EXPECT_TRUE(layout.find("name=systemd")->named());
  EXPECT_TRUE(layout.find("")->unified());
  EXPECT_EQ(layout.find("")->own_path, "/init.scope");
  EXPECT_EQ(layout.find("pids"), nullptr);
  EXPECT_EQ(layout.find("cp"), nullptr);
}

std::string mount_line(const FakeTree& tree, std::string_view root, std::string_view type,
                       std::string_view options) {
  const auto st = sys::fstatat(AT_FDCWD, tree.path()).value();
  return format("30 20 {}:{} {} {} rw - {} x rw,{}\n", major(st.st_dev), minor(st.st_dev), root,
                tree.path(), type, options);
}

TEST(Layout, OpensGroupsThroughAMountFromTheTop) {
  FakeTree part, whole;
  whole.write("a/b/cpu.shares", "7");
  auto layout = Layout::parse(kCgroup, mount_line(part, "/a", "cgroup", "cpu,cpuacct") +
                                           mount_line(whole, "/", "cgroup", "cpu,cpuacct"))
                    .value();
  const auto group = layout.open(*layout.find("cpu"), "/a/b");
  ASSERT_TRUE(group) << group.error().message();
  EXPECT_EQ(sys::read_file(group->get(), "cpu.shares").value(), "7");
  EXPECT_TRUE(layout.open(*layout.find("cpu"), "/"));
  const auto missing = layout.open(*layout.find("cpu"), "/nothing");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().object(), "cgroup /nothing of cgroup hierarchy 'cpu,cpuacct'");
}

TEST(Layout, AYardIsUsedAsItIs) {
  const FakeTree tree;
  auto layout = Layout::discover(tree.path()).value();
  for (const auto& hierarchy : layout.hierarchies()) {
    EXPECT_FALSE(layout.open(hierarchy, "/there"));
    const std::string name = hierarchy.unified() ? "unified" : hierarchy.named() ? hierarchy.name.substr(5) : hierarchy.name;
    tree.write(name + "/there/cgroup.procs", "");
    EXPECT_TRUE(layout.open(hierarchy, "/there"));
  }
}

TEST(Layout, PathsStayInside) {
  EXPECT_EQ(relative_path("/a//b/./c").value(), "a/b/c");
  EXPECT_EQ(relative_path("/").value(), "");
  EXPECT_EQ(relative_path("/a/../b").error().kind(), Error::Kind::kCorruptImage);
  EXPECT_TRUE(is_below("/a/b", "/a"));
  EXPECT_TRUE(is_below("/a", "/a"));
  EXPECT_TRUE(is_below("/a", "/"));
  EXPECT_FALSE(is_below("/ab", "/a"));
}

TEST(LayoutLive, EveryHierarchyOfThisNodeCanBeOpened) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  auto layout = Layout::discover();
  ASSERT_TRUE(layout) << layout.error().message();
  if (layout->hierarchies().empty()) GTEST_SKIP() << "this node has no cgroups";
  for (const auto& hierarchy : layout->hierarchies()) {
    const auto own = layout->open(hierarchy, hierarchy.own_path);
    ASSERT_TRUE(own) << own.error().message();
    EXPECT_NE(sys::read_file(own->get(), "cgroup.procs").value().find(std::to_string(::getpid())),
              std::string::npos);
  }
}

TEST(LayoutLive, WorksWithoutAnyMount) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  auto layout = Layout::parse(sys::read_file(AT_FDCWD, "/proc/self/cgroup").value(), "").value();
  if (layout.hierarchies().empty()) GTEST_SKIP() << "this node has no cgroups";
  for (const auto& hierarchy : layout.hierarchies()) {
    const auto own = layout.open(hierarchy, hierarchy.own_path);
    ASSERT_TRUE(own) << own.error().message();
    EXPECT_TRUE(sys::read_file(own->get(), "cgroup.procs"));
  }
}

}  // namespace
}  // namespace dormouse::cgroups
