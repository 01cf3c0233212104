#include "shim/log_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/testing.h"

namespace dormouse::shim {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

TEST(LogFile, KeepsEarlyLinesUntilThereIsAFileAndFiltersThemByTheFinalVerbosity) {
  TemporaryDirectory dir;
  {
    LogFile log;
    log.debug("early {}", 1);
    log.warn("early warning");
    log.set_verbosity(4);
    ASSERT_TRUE(log.open(dir.fd(), "dump.log"));
    log.debug("late");
  }
  EXPECT_THAT(dir.read("dump.log"), ContainsRegex("early 1\n[^\n]*early warning\n[^\n]*late\n"));
}

TEST(LogFile, BeginsWithVersionAndKernel) {
  TemporaryDirectory dir;
  LogFile log(3);
  ASSERT_TRUE(log.open(dir.fd(), "l"));
  log.flush();
  EXPECT_THAT(dir.read("l"),
              MatchesRegex("\\([0-9]{2}\\.[0-9]{6}\\) Version: 4\\.2 \\(Dormouse .*\\)\n"
                           "\\([0-9]{2}\\.[0-9]{6}\\) Running on .*\n"));
}

TEST(LogFile, LowVerbosityHasNoTimestamps) {
  TemporaryDirectory dir;
  LogFile log(2);
  ASSERT_TRUE(log.open(dir.fd(), "l"));
  log.warn("be careful");
  log.info("not wanted");
  log.flush();
  EXPECT_EQ(dir.read("l"), "Warn: be careful\n");
}

TEST(LogFile, VerbosityZeroIsSilentButRemembersTheError) {
  TemporaryDirectory dir;
  LogFile log(0);
  ASSERT_TRUE(log.open(dir.fd(), "l"));
  log.error(Error::unsupported("no"));
  log.flush();
  EXPECT_EQ(dir.read("l"), "");
  EXPECT_THAT(log.first_error(), MatchesRegex("Error \\(shim/log_file_test\\.cc:[0-9]+\\): no\n"));
}

TEST(LogFile, ErrorsAreWrittenAtOnceAndTheFirstIsKept) {
  TemporaryDirectory dir;
  LogFile log(4);
  ASSERT_TRUE(log.open(dir.fd(), "l"));
  log.error(Error::unsupported("first").object("fd 3"));
  log.error(Error::unsupported("second"));
  EXPECT_THAT(dir.read("l"),
              ContainsRegex("\\) Error \\(shim/[^)]*\\): fd 3: first\n[^\n]*second\n"));
  EXPECT_THAT(log.first_error(), HasSubstr("fd 3: first\n"));
}

TEST(LogFile, ANewlineInANameStartsNoLine) {
  TemporaryDirectory dir;
  LogFile log(2);
  ASSERT_TRUE(log.open(dir.fd(), "l"));
  log.warn("task {}", "a\nError (forged)");
  log.flush();
  EXPECT_EQ(dir.read("l"), "Warn: task a Error (forged)\n");
}

TEST(LogFile, TruncatesAnExistingFileAndKeepsItsInode) {
  TemporaryDirectory dir;
  dir.write("l", "old old old");
  struct stat before {
  }, after{};
  ASSERT_EQ(::stat(dir.path("l").c_str(), &before), 0);
  LogFile log(2);
  ASSERT_TRUE(log.open(dir.fd(), "l"));
  ASSERT_EQ(::stat(dir.path("l").c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  EXPECT_EQ(after.st_size, 0);
}

TEST(LogFile, MissingDirectoryIsNamed) {
  TemporaryDirectory dir;
  LogFile log;
  const auto opened = log.open(dir.fd(), "no/such.log");
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message(), StartsWith("log file no/such.log: "));
}

TEST(LogFile, AForkedProcessDoesNotWriteTheParentsLinesAgain) {
  TemporaryDirectory dir;
  {
    LogFile log(2);
    ASSERT_TRUE(log.open(dir.fd(), "l"));
    log.warn("once");
    const pid_t child = ::fork();
    if (child == 0) {
      log.flush();
      ::_exit(0);
    }
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  }
  EXPECT_EQ(dir.read("l"), "Warn: once\n");
}

TEST(LogFile, LongLogsAreComplete) {
  TemporaryDirectory dir;
  std::string expected;
  {
    LogFile log(2);
    ASSERT_TRUE(log.open(dir.fd(), "l"));
    for (int i = 0; i < 20000; ++i) {
      log.warn("line {}", i);
      expected += format("Warn: line {}\n", i);
    }
  }
  EXPECT_EQ(dir.read("l"), expected);
}

}  // namespace
}  // namespace dormouse::shim
