// Locks on files: the lines of /proc/locks, and of "lock:" in /proc/PID/fdinfo/N.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dormouse::proc {

enum class LockKind : std::uint8_t {
  kPosix,  // fcntl(F_SETLK): of a descriptor table
  kFlock,  // flock(): of an open file, as are those below
  kOfd,    // fcntl(F_OFD_SETLK)
  kLease,  // fcntl(F_SETLEASE)
};

struct FileLock {
  static constexpr std::int64_t kEnd = INT64_MAX;  // to the end of the file, wherever that is

  LockKind kind = LockKind::kPosix;
  int type = 0;           // F_RDLCK, F_WRLCK, F_UNLCK
  bool breaking = false;  // of a lease: its holder was told to give it up; `type` is what it may keep
  pid_t pid = 0;          // who set it, as the reader's proc mount numbers it; 0: gone, or not seen there; -1: unknown
  std::string file;       // "08:01:1234": device and inode
  std::int64_t first = 0, last = kEnd;  // bytes, both included
  friend bool operator==(const FileLock&, const FileLock&) = default;
};

// One line, from its number on: "1: POSIX  ADVISORY  WRITE 359 00:13:11691 0 EOF".
Result<FileLock> parse_lock(std::string_view line);

// Of /proc/locks: inodes, of whatever device, with a lease that opening them for reading would break.
Result<std::vector<std::uint64_t>> parse_leases_against_reading(std::string_view text);

}  // namespace dormouse::proc
