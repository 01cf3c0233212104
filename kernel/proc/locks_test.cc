#include "kernel/proc/locks.h"

#include <fcntl.h>
#include <gmock/gmock.h>

namespace dormouse::proc {
namespace {

FileLock parsed(std::string_view line) {
  const auto lock = parse_lock(line);
  EXPECT_TRUE(lock) << line;
  return lock.value_or(FileLock{});
}

TEST(ParseLock, EveryKind) {
  EXPECT_EQ(parsed("1: POSIX  ADVISORY  WRITE 359 00:13:11691 0 EOF"),
            (FileLock{LockKind::kPosix, F_WRLCK, false, 359, "00:13:11691", 0, FileLock::kEnd}));
  EXPECT_EQ(parsed("12: OFDLCK ADVISORY  READ -1 08:01:7 10 29"),
            (FileLock{LockKind::kOfd, F_RDLCK, false, -1, "08:01:7", 10, 29}));
  EXPECT_EQ(parsed("3: FLOCK  ADVISORY  READ 0 fd:00:8 0 EOF").kind, LockKind::kFlock);
  EXPECT_EQ(parsed("3: LEASE  ACTIVE    WRITE 7 fd:00:8 0 EOF").breaking, false);
  const FileLock breaking = parsed("3: LEASE  BREAKING  UNLCK 7 fd:00:8 0 EOF");
  EXPECT_TRUE(breaking.breaking);
  EXPECT_EQ(breaking.type, F_UNLCK);
}

TEST(ParseLock, WhatIsNotKnownIsNotGuessed) {
  for (const auto* const line :
       {"", "1: POSIX", "1: POSIX  MANDATORY WRITE 3 00:13:1 0 EOF", "1: ACCESS ADVISORY  WRITE 3 00:13:1 0 EOF",
        "1: FLOCK  MSNFS     READ 3 00:13:1 0 EOF", "1: LEASE  BREAKER   READ 3 00:13:1 0 EOF",
        "1: POSIX  ACTIVE    WRITE 3 00:13:1 0 EOF", "1: POSIX  ADVISORY  WRITE x 00:13:1 0 EOF",
        "1: POSIX  ADVISORY  WRITE 3 00:13:1 -1 EOF", "1: POSIX  ADVISORY  WRITE 3 00:13:1 9 8",
        "1: -> POSIX  ADVISORY  WRITE 3 00:13:1 0 EOF"})
    EXPECT_FALSE(parse_lock(line)) << line;
}

TEST(ParseLeases, FindsThoseAgainstReading) {
  const auto inodes = parse_leases_against_reading("1: POSIX  ADVISORY  WRITE 359 00:13:11691 0 EOF\n"
                                          "1: -> POSIX  ADVISORY  WRITE 360 00:13:11691 0 EOF\n"
                                          "2: LEASE  ACTIVE    WRITE 359 fd:00:12 0 EOF\n"
                                          "2: LEASE  ACTIVE    READ 359 fd:00:14 0 EOF\n"
                                          "3: DELEG  BREAKING  UNLCK 359 fd:00:13 0 EOF\n");
  EXPECT_THAT(inodes.value_or(std::vector<std::uint64_t>{}), testing::ElementsAre(12u, 13u));
  EXPECT_TRUE(parse_leases_against_reading("").value().empty());
  EXPECT_FALSE(parse_leases_against_reading("2: LEASE  ACTIVE    WRITE 359 <none>:x 0 EOF\n"));
}

}  // namespace
}  // namespace dormouse::proc
