#include "shim/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dormouse::shim {
namespace {

using ::testing::ElementsAre;

Result<CommandLine> parse(std::vector<const char*> words) {
  return parse_command_line(words);
}

// "name=value", "name", "no-name".
std::vector<std::string> shown(const CommandLine& line) {
  std::vector<std::string> all;
  for (const OptionUse& use : line.uses)
    all.push_back((use.on ? "" : "no-") + std::string(use.option->name) +
                  (use.value ? "=" + *use.value : ""));
  return all;
}

TEST(CommandLine, ShortOptions) {
  const auto line = parse({"dump", "-t", "12", "-D/tmp", "-Rj", "-v4", "-o", "dump.log"});
  ASSERT_TRUE(line);
  EXPECT_THAT(shown(*line), ElementsAre("tree=12", "images-dir=/tmp", "leave-running", "shell-job",
                                        "verbosity=4", "log-file=dump.log"));
  EXPECT_THAT(line->operands, ElementsAre("dump"));
}

TEST(CommandLine, LongOptions) {
  const auto line = parse({"--images-dir", "a", "restore", "--work-dir=b", "--manage-cgroups=full",
                           "--no-tcp-close", "--root=", "--manage-cgroups"});
  ASSERT_TRUE(line);
  EXPECT_THAT(shown(*line), ElementsAre("images-dir=a", "work-dir=b", "manage-cgroups=full",
                                        "no-tcp-close", "root=", "manage-cgroups"));
}

TEST(CommandLine, AnOptionalValueIsNeverTheNextWord) {
  const auto line = parse({"--manage-cgroups", "dump"});
  ASSERT_TRUE(line);
  EXPECT_THAT(line->operands, ElementsAre("dump"));
}

TEST(CommandLine, Verbosities) {
  EXPECT_THAT(shown(*parse({"-v"})), ElementsAre("verbosity"));
  EXPECT_THAT(shown(*parse({"-vvvv"})), ElementsAre("verbosity=vvv"));
  EXPECT_THAT(shown(*parse({"--verbosity=3"})), ElementsAre("verbosity=3"));
  EXPECT_THAT(shown(*parse({"--verb=3"})), ElementsAre("verbosity=3"));
  // One dash too few: a letter and its value.
  EXPECT_THAT(shown(*parse({"-verbosity=0"})), ElementsAre("verbosity=erbosity=0"));
}

TEST(CommandLine, TheFirstManualsVerbosityIsUnderstoodButEatsNoOperand) {
  const auto old = parse({"-v", "4", "dump"});
  EXPECT_THAT(shown(*old), ElementsAre("verbosity=4"));
  EXPECT_THAT(old->operands, ElementsAre("dump"));
  const auto worker = parse({"swrk", "-v", "3"});
  EXPECT_THAT(shown(*worker), ElementsAre("verbosity"));
  EXPECT_THAT(worker->operands, ElementsAre("swrk", "3"));
}

TEST(CommandLine, TwoDashesEndTheOptions) {
  const auto line = parse({"restore", "--exec-cmd", "--", "ls", "-l", "--all"});
  ASSERT_TRUE(line);
  EXPECT_THAT(shown(*line), ElementsAre("exec-cmd"));
  EXPECT_THAT(line->operands, ElementsAre("restore", "ls", "-l", "--all"));
}

TEST(CommandLine, ErrorsNameTheWord) {
  EXPECT_EQ(parse({"--nosuch"}).error().message(), "--nosuch: unknown option");
  EXPECT_EQ(parse({"--nosuch=1"}).error().message(), "--nosuch: unknown option");
  EXPECT_EQ(parse({"-Z"}).error().message(), "-Z: unknown option");
  EXPECT_EQ(parse({"dump", "-t"}).error().message(), "option -t: it needs a value");
  EXPECT_EQ(parse({"--tree"}).error().message(), "option --tree: it needs a value");
}

TEST(CommandLine, Commands) {
  EXPECT_EQ(parse_command(*parse({"-j", "pre-dump"})).value(), kPreDump);
  EXPECT_EQ(parse_command(*parse({"swrk", "3"})).value(), kSwrk);
  EXPECT_EQ(parse_command(*parse({"sleep"})).error().message(),
            "sleep: unknown command (see --help)");
  EXPECT_FALSE(parse_command(*parse({"-j"})));
}

TEST(CommandLine, LooksUpUses) {
  const auto line = parse({"--config", "a", "--config=b"});
  EXPECT_TRUE(line->has("config"));
  EXPECT_FALSE(line->has("help"));
  EXPECT_EQ(line->value_of("config"), "b");
}

}  // namespace
}  // namespace dormouse::shim
