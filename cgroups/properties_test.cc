#include "cgroups/properties.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "cgroups/testing.h"

namespace dormouse::cgroups {
namespace {

struct Group {
  FakeTree tree;
  Fd fd = sys::openat(AT_FDCWD, tree.path(), O_RDONLY | O_DIRECTORY).value();
};

TEST(Properties, ReadAsTheFormatWantsThem) {
  const Group group;
  group.tree.write("pids.max", "max\n");
  group.tree.write("memory.limit_in_bytes", "9223372036854775807\n");
  group.tree.write("memory.oom_control", "oom_kill_disable 1\nunder_oom 0\n");
  group.tree.write("cgroup.procs", "1\n2\n");
  group.tree.write("devices.list", std::string(3000, 'x') + "\ny\n");
  EXPECT_EQ(read_property(group.fd.get(), "pids.max").value(), "max");
  EXPECT_EQ(read_property(group.fd.get(), "memory.limit_in_bytes").value(), "-1");
  EXPECT_EQ(read_property(group.fd.get(), "memory.oom_control").value(), "1");
  EXPECT_EQ(read_property(group.fd.get(), "cgroup.procs").value(), "");
  EXPECT_EQ(read_property(group.fd.get(), "devices.list").value()->size(), 3002u);
  EXPECT_EQ(read_property(group.fd.get(), "cpu.shares").value(), std::nullopt);
}

TEST(Properties, SubtreeControlIsWrittenAsDifferences) {
  const Group group;
  group.tree.write("cgroup.subtree_control", "cpu io\n");
  ASSERT_TRUE(write_property(group.fd.get(), "cgroup.subtree_control", "cpu memory pids"));
  EXPECT_EQ(group.tree.read("cgroup.subtree_control"), "-io +memory +pids");
  group.tree.write("cgroup.subtree_control", "cpu io\n");
  ASSERT_TRUE(write_property(group.fd.get(), "cgroup.subtree_control", ""));
  EXPECT_EQ(group.tree.read("cgroup.subtree_control"), "-cpu -io");
}

TEST(Properties, EqualValuesAreNotWrittenAgain) {
  const Group group;
  group.tree.write("cpu.shares", "1024\n");
  ASSERT_TRUE(write_property(group.fd.get(), "cpu.shares", "1024"));
  EXPECT_EQ(group.tree.read("cpu.shares"), "1024\n");  // the newline shows that nobody wrote
  ASSERT_TRUE(write_property(group.fd.get(), "cpu.shares", "2048"));
  EXPECT_TRUE(group.tree.read("cpu.shares").starts_with("2048"));
}

TEST(Properties, SpecialOnes) {
  const Group group;
  group.tree.write("cgroup.type", "domain\n");
  ASSERT_TRUE(write_property(group.fd.get(), "cgroup.type", "domain threaded"));
  EXPECT_EQ(group.tree.read("cgroup.type"), "domain\n");
  ASSERT_TRUE(write_property(group.fd.get(), "cgroup.type", "threaded"));
  EXPECT_TRUE(group.tree.read("cgroup.type").starts_with("threaded"));
  group.tree.write("cgroup.procs", "5\n");
  ASSERT_TRUE(write_property(group.fd.get(), "cgroup.procs", ""));
  EXPECT_EQ(group.tree.read("cgroup.procs"), "5\n");
  group.tree.write("net_prio.ifpriomap", "lo 0\neth0 0\n");
  ASSERT_TRUE(write_property(group.fd.get(), "net_prio.ifpriomap", "lo 0\neth0 7\neth1 10"));
  EXPECT_TRUE(group.tree.read("net_prio.ifpriomap").starts_with("eth1 10"));
  group.tree.write("devices.list", "a *:* rwm\n");
  group.tree.write("devices.deny", "");
  group.tree.write("devices.allow", "");
  ASSERT_TRUE(write_property(group.fd.get(), "devices.list", "c 1:3 rwm"));
  EXPECT_EQ(group.tree.read("devices.deny"), "a");
  EXPECT_EQ(group.tree.read("devices.allow"), "c 1:3 rwm");
  EXPECT_EQ(write_property(group.fd.get(), "no.such", "1").error().kind(), Error::Kind::kUnsupported);
}

TEST(Properties, WhatLimitsNothingMayBeMissing) {
  EXPECT_TRUE(may_be_missing("memory.kmem.tcp.limit_in_bytes", "9223372036854771712"));
  EXPECT_TRUE(may_be_missing("cpu.max", "max 100000"));
  EXPECT_FALSE(may_be_missing("memory.limit_in_bytes", "4096"));
}

std::vector<std::string> names(const PropertyTable& table, std::string_view line) {
  const auto layout = Layout::parse(line, "").value();
  return table.names_for(layout.hierarchies().front());
}
bool has(const std::vector<std::string>& list, std::string_view name) {
  return std::ranges::find(list, name) != list.end();
}

TEST(PropertyTable, NamesByHierarchy) {
  const PropertyTable table;
  const auto v1 = names(table, "1:cpu,pids:/\n");
  EXPECT_TRUE(has(v1, "cpu.shares") && has(v1, "pids.max") && has(v1, "notify_on_release"));
  EXPECT_FALSE(has(v1, "cpu.max") || has(v1, "memory.limit_in_bytes"));
  const auto v2 = names(table, "0::/\n");
  EXPECT_TRUE(has(v2, "cgroup.subtree_control") && has(v2, "memory.max"));
  EXPECT_FALSE(has(v2, "tasks"));
  EXPECT_EQ(names(table, "1:name=systemd:/\n").size(), 4u);
}

TEST(PropertyTable, YamlMergesAndReplaces) {
  PropertyTable table;
  ASSERT_TRUE(table.merge_yaml("\"cpu\":\n - \"strategy\": \"replace\"\n - \"properties\": [\"cpu.shares\"]\n"
                               "\"pids\":\n - \"strategy\": \"merge\"\n - \"properties\": [ \"pids.more\" ]\n"));
  const auto list = names(table, "1:cpu,pids:/\n");
  EXPECT_TRUE(has(list, "cpu.shares") && has(list, "pids.max") && has(list, "pids.more"));
  EXPECT_FALSE(has(list, "cpu.cfs_quota_us"));
}

TEST(PropertyTable, BadYamlIsABadOption) {
  for (const char* const text :
       {"\"cpu\":\n - \"strategy\": \"invent\"\n - \"properties\": []\n", "cpu: [", "cpu: 3\n",
        "\"cpu\":\n - \"strategy\": \"merge\"\n - \"properties\": [\"../x\"]\n"}) {
    PropertyTable table;
    const auto merged = table.merge_yaml(text);
    ASSERT_FALSE(merged) << text;
    EXPECT_EQ(merged.error().kind(), Error::Kind::kBadOption);
  }
}

}  // namespace
}  // namespace dormouse::cgroups
