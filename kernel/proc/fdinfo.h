// /proc/PID/fdinfo/N.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dormouse::proc {

struct FdInfo {
  std::uint64_t position = 0;
  std::uint32_t flags = 0;  // O_*, with O_CLOEXEC if the descriptor has it
  std::uint32_t mount_id = 0;
  std::uint64_t inode = 0;  // 0 before Linux 5.14
  // What follows, line by line: the file kind's own ("eventfd-count: …", "tfd: …", "lock:\t1: …").
  std::vector<std::string> rest;

  // The text behind "KEY:" of the first such line, without blanks around it.
  std::optional<std::string_view> value(std::string_view key) const;
};

Result<FdInfo> parse_fdinfo(std::string_view text);

}  // namespace dormouse::proc
