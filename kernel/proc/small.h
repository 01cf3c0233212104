// The small files of /proc/PID: cgroup, uid_map and gid_map, timens_offsets, limits, auxv.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dormouse::proc {

// One line of /proc/PID/cgroup. v2: hierarchy 0, no controllers.
struct CgroupMembership {
  std::uint32_t hierarchy = 0;
  std::string controllers;  // as printed: "cpu,cpuacct", "name=systemd", ""
  std::string path;         // relative to the reader's cgroup namespace: "/", "/../x"
  friend bool operator==(const CgroupMembership&, const CgroupMembership&) = default;
};
Result<std::vector<CgroupMembership>> parse_cgroup(std::string_view text);

struct IdRange {
  std::uint32_t inside = 0, outside = 0, count = 0;
  friend bool operator==(const IdRange&, const IdRange&) = default;
};
Result<std::vector<IdRange>> parse_id_map(std::string_view text);

struct TimeOffset {
  std::int64_t seconds = 0;
  std::int64_t nanoseconds = 0;
  friend bool operator==(const TimeOffset&, const TimeOffset&) = default;
};
struct TimeOffsets {
  TimeOffset monotonic, boottime;
};
Result<TimeOffsets> parse_timens_offsets(std::string_view text);

// Indexed by RLIMIT_*; ~0 is unlimited.
inline constexpr std::size_t kLimitCount = 16;
struct Limit {
  std::uint64_t soft = 0, hard = 0;
  friend bool operator==(const Limit&, const Limit&) = default;
};
Result<std::array<Limit, kLimitCount>> parse_limits(std::string_view text);

// The words of a task's auxv, without the AT_NULL that ends it: keys and values in turn; of a program of 32-bit code
// each word has both.
std::vector<std::uint64_t> parse_auxv(std::string_view bytes);
// Which of the two: whether the program that the task executed is one of 32-bit code.
bool is_auxv_of_32_bit_code(std::span<const std::uint64_t> words);

}  // namespace dormouse::proc
