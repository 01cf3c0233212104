#include "shim/config_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shim/testing.h"

namespace dormouse::shim {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::string value_in(std::string_view line) {
  const auto uses = parse_config(line, "f");
  if (!uses) return "error: " + uses.error().message();
  if (uses->size() != 1) return "not one option";
  const OptionUse& use = uses->front();
  return std::string(use.on ? "" : "no-") + std::string(use.option->name) +
         (use.value ? "=" + *use.value : "");
}

TEST(ConfigFile, OneOptionALine) {
  const auto uses = parse_config("\n# comment\n  tcp-established  \n\troot /a/b\r\n", "f");
  ASSERT_TRUE(uses);
  ASSERT_THAT(*uses, SizeIs(2));
  EXPECT_EQ((*uses)[0].option->name, "tcp-established");
  EXPECT_EQ((*uses)[1].value, "/a/b");
  EXPECT_EQ((*uses)[1].origin, "\"root\" in f:4");
}

TEST(ConfigFile, Values) {
  EXPECT_EQ(value_in("verbosity 4"), "verbosity=4");
  EXPECT_EQ(value_in("verbosity=4"), "verbosity=4");
  EXPECT_EQ(value_in("verbosity = 4"), "verbosity=4");
  EXPECT_EQ(value_in("root\t/x"), "root=/x");
  EXPECT_EQ(value_in("root /x # comment"), "root=/x");
  EXPECT_EQ(value_in("tcp-close# comment"), "tcp-close");
  EXPECT_EQ(value_in("no-tcp-close"), "no-tcp-close");
  EXPECT_EQ(value_in("external mnt[/a=b]:c"), "external=mnt[/a=b]:c");
}

TEST(ConfigFile, Quotes) {
  EXPECT_EQ(value_in("root \"/a b#c\" # comment"), "root=/a b#c");
  EXPECT_EQ(value_in("lsm-profile \"selinux:\\\"x\\\" \\y\""), "lsm-profile=selinux:\"x\" \\y");
  EXPECT_EQ(value_in("root \"\""), "root=");
  EXPECT_EQ(value_in("root \"/a"), "error: f:1: the closing quote is missing");
  EXPECT_EQ(value_in("root \"/a\" b"), "error: f:1: there is more after the value");
  EXPECT_EQ(value_in("root a b"), "error: f:1: there is more after the value");
}

TEST(ConfigFile, UnknownOptionsAreErrorsWithTheirPlace) {
  EXPECT_EQ(value_in("nosuch 1"), "error: \"nosuch\" in f:1: unknown option");
  EXPECT_EQ(value_in("help"), "error: \"help\" in f:1: not allowed in a configuration file");
}

TEST(ConfigFile, AMissingFileIsLikeAnEmptyOneAndAnUnreadableOneIsNot) {
  TemporaryDirectory dir;
  Settings settings;
  EXPECT_TRUE(apply_config_file(settings, dir.path("absent.conf")));
  EXPECT_TRUE(apply_config_file(settings, dir.path("absent/absent.conf")));
  const auto directory = apply_config_file(settings, dir.path());
  ASSERT_FALSE(directory);
  EXPECT_THAT(directory.error().message(), HasSubstr("configuration file " + dir.path()));
}

TEST(ConfigFile, LaterFilesWin) {
  TemporaryDirectory dir;
  Settings settings;
  ASSERT_TRUE(apply_config_files(
      settings, {.global = dir.write("1", "root /1\nlog-file 1\ntimeout 1\nwork-dir 1\ntcp-close"),
                 .user = dir.write("2", "root /2\nlog-file 2\ntimeout 2\nno-tcp-close"),
                 .environment = dir.write("3", "root /3\nlog-file 3"),
                 .chosen = dir.write("4", "root /4")}));
  EXPECT_EQ(settings.common.root, "/4");
  EXPECT_EQ(settings.log_file, "3");
  EXPECT_EQ(settings.dump.freeze_timeout, std::chrono::seconds(2));
  EXPECT_EQ(settings.work_dir, "1");
  EXPECT_FALSE(settings.common.tcp_close);
}

TEST(ConfigFile, ListsGrow) {
  TemporaryDirectory dir;
  Settings settings;
  ASSERT_TRUE(apply_config_files(settings, {.global = dir.write("1", "action-script a"),
                                            .user = dir.write("2", "action-script b\n")}));
  EXPECT_THAT(settings.action_scripts, ElementsAre("a", "b"));
}

TEST(ConfigFile, AValueThatIsWrongNamesItsPlace) {
  TemporaryDirectory dir;
  Settings settings;
  const std::string path = dir.write("c", "\nmanage-cgroups some\n");
  const auto applied = apply_config_file(settings, path);
  ASSERT_FALSE(applied);
  EXPECT_THAT(applied.error().message(), HasSubstr("\"manage-cgroups\" in " + path + ":2: "));
}

}  // namespace
}  // namespace dormouse::shim
