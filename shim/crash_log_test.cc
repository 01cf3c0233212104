#include "shim/crash_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/testing.h"

namespace dormouse::shim {
namespace {

using ::testing::MatchesRegex;

// Dies of `signal` with a line in its buffer. Returns the wait status.
int die_of(int signal, const TemporaryDirectory& dir) {
  const pid_t child = ::fork();
  if (child == 0) {
    LogFile log;
    if (!log.open(dir.fd(), "l")) ::_exit(1);
    const CrashLog crash(log);
    log.warn("last line");
    ::raise(signal);
    ::_exit(2);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

TEST(CrashLog, TheLastLinesAreWrittenAndTheProcessDiesOfTheSignal) {
  for (const int signal : {SIGSEGV, SIGABRT, SIGTERM}) {
    TemporaryDirectory dir;
    const int status = die_of(signal, dir);
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), signal);
    EXPECT_THAT(dir.read("l"),
                MatchesRegex("Warn: last line\nError \\(shim/crash_log\\.cc:[0-9]+\\): "
                             "process [0-9]+: killed by .*\n"));
  }
}

TEST(CrashLog, DispositionsAreGivenBack) {
  struct ::sigaction before {
  }, during{}, after{};
  ::sigaction(SIGTERM, nullptr, &before);
  {
    LogFile log;
    const CrashLog crash(log);
    ::sigaction(SIGTERM, nullptr, &during);
  }
  ::sigaction(SIGTERM, nullptr, &after);
  EXPECT_NE(before.sa_handler, during.sa_handler);
  EXPECT_EQ(before.sa_handler, after.sa_handler);
}

TEST(CrashLog, AForkedProcessWritesNothing) {
  TemporaryDirectory dir;
  {
    LogFile log;
    ASSERT_TRUE(log.open(dir.fd(), "l"));
    const CrashLog crash(log);
    log.warn("mine");
    const pid_t child = ::fork();
    if (child == 0) {
      ::raise(SIGTERM);
      ::_exit(2);
    }
    ::waitpid(child, nullptr, 0);
  }
  EXPECT_EQ(dir.read("l"), "Warn: mine\n");
}

}  // namespace
}  // namespace dormouse::shim
