#include "kernel/proc/timers.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace dormouse::proc {
namespace {

TEST(TimersTest, ParsesEveryKindOfNotification) {
  const auto timers = parse_timers(
      "ID: 2\nsignal: 34/00007ffd3e1c8a60\nnotify: signal/tid.4711\nClockID: 1\n"
      "ID: 1\nsignal: 14/0000000000000001\nnotify: none/pid.4700\nClockID: -6\n"
      "ID: 0\nsignal: 14/(null)\nnotify: thread/pid.4700\nClockID: 0\n");
  ASSERT_TRUE(timers) << timers.error().message();
  ASSERT_EQ(timers->size(), 3u);
  EXPECT_EQ((*timers)[0], (PosixTimer{2, 34, 0x7ffd3e1c8a60, SIGEV_THREAD_ID, 4711, 1}));
  EXPECT_EQ((*timers)[1], (PosixTimer{1, 14, 1, SIGEV_NONE, 4700, -6}));
  EXPECT_EQ((*timers)[2], (PosixTimer{0, 14, 0, SIGEV_THREAD, 4700, 0}));
}

TEST(TimersTest, NoTimersNoText) { EXPECT_TRUE(parse_timers("")->empty()); }

TEST(TimersTest, NamesTheLineItDoesNotUnderstand) {
  for (const char* text : {"signal: 14/0\n", "ID: x\n", "ID: 0\nnotify: pigeon/pid.1\n", "ID: 0\nnotify: signal/pid.\n"}) {
    const auto timers = parse_timers(text);
    ASSERT_FALSE(timers) << text;
    EXPECT_NE(timers.error().message().find("timers"), std::string::npos);
  }
}

}  // namespace
}  // namespace dormouse::proc
