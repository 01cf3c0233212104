#include "engine/mounts/mount_table.h"

#include <gtest/gtest.h>

#include "engine/mounts/runc_mountinfo.h"

namespace dormouse::engine {
namespace {

std::uint32_t id_at(const MountTable& table, std::string_view path) {
  const auto* const mount = table.by_path(path);
  return mount ? mount->id : 0;
}

TEST(MountTable, FindsTheMountOfAPath) {
  const auto table = MountTable::of(kRuncMountinfo);
  ASSERT_TRUE(table);
  EXPECT_EQ(table->root()->id, 97u);
  EXPECT_EQ(id_at(*table, "/"), 97u);
  EXPECT_EQ(id_at(*table, "/etc/passwd"), 97u);
  EXPECT_EQ(id_at(*table, "/dev"), 105u);
  EXPECT_EQ(id_at(*table, "/dev/null"), 105u);
  EXPECT_EQ(id_at(*table, "/device"), 97u);
  EXPECT_EQ(id_at(*table, "/dev/shm/count"), 110u);
  EXPECT_EQ(id_at(*table, "/proc/sys/kernel"), 58u);
  EXPECT_EQ(table->by_id(113)->mount_point, "/sys");
  EXPECT_EQ(table->by_id(1), nullptr);
  EXPECT_FALSE(table->is_hidden(*table->by_id(105)));
  EXPECT_TRUE(table->has_children(*table->by_id(105)));
  EXPECT_FALSE(table->has_children(*table->by_id(110)));
}

TEST(MountTable, SeesWhatCovers) {
  const auto table = MountTable::of(
      "10 1 0:1 / / rw - ext4 a rw\n"
      "11 10 0:2 / /x/y rw - tmpfs b rw\n"
      "12 10 0:3 / /x rw - tmpfs c rw\n"
      "13 12 0:4 / /x rw - tmpfs d rw\n"
      "14 13 0:5 / /x/z rw - tmpfs e rw\n");
  ASSERT_TRUE(table);
  EXPECT_EQ(id_at(*table, "/x"), 13u);
  EXPECT_EQ(id_at(*table, "/x/y"), 13u);
  EXPECT_EQ(id_at(*table, "/x/z/1"), 14u);
  EXPECT_TRUE(table->is_hidden(*table->by_id(11)));
  EXPECT_TRUE(table->is_hidden(*table->by_id(12)));
  EXPECT_FALSE(table->is_hidden(*table->by_id(13)));
}

TEST(MountTable, SeesWhatCoversTheRoot) {
  const auto table = MountTable::of(
      "1 1 0:1 / / rw - rootfs a rw\n"
      "2 1 0:2 / / rw - ext4 b rw\n");
  ASSERT_TRUE(table);
  EXPECT_EQ(table->root()->id, 1u);
  EXPECT_EQ(id_at(*table, "/etc"), 2u);
}

TEST(MountTable, HasNoRootInAChroot) {
  const auto table = MountTable::of("11 10 0:2 / /x rw - tmpfs b rw\n");
  ASSERT_TRUE(table);
  EXPECT_EQ(table->root(), nullptr);
  EXPECT_EQ(table->by_path("/x"), nullptr);
}

TEST(MountTable, ComparesPathsByComponents) {
  EXPECT_TRUE(is_below("/a/b", "/a"));
  EXPECT_TRUE(is_below("/a", "/a"));
  EXPECT_TRUE(is_below("/a", "/"));
  EXPECT_FALSE(is_below("/ab", "/a"));
  EXPECT_FALSE(is_below("/", "/a"));
  EXPECT_EQ(path_below("/a/b/c", "/a"), "b/c");
  EXPECT_EQ(path_below("/a", "/"), "a");
  EXPECT_EQ(path_below("/a", "/a"), "");
}

}  // namespace
}  // namespace dormouse::engine
