#include "kernel/proc/small.h"

#include <sys/resource.h>

#include <cstring>
#include <optional>

#include "base/text.h"
#include "kernel/proc/scan.h"

namespace dormouse::proc {

Result<std::vector<CgroupMembership>> parse_cgroup(std::string_view text) {
  std::vector<CgroupMembership> all;
  while (!text.empty()) {
    const std::string_view line = take_until(text, '\n');
    std::string_view rest = line;
    const auto hierarchy = parse_number<std::uint32_t>(take_until(rest, ':'));
    const std::string_view controllers = take_until(rest, ':');  // the path may hold colons
    if (!hierarchy || !rest.starts_with('/')) return fail(unexpected_line("cgroup", line));
    // Only newlines are escaped here; " (deleted)" marks a group that was removed under a zombie.
    all.push_back({*hierarchy, std::string(controllers), std::string(rest)});
  }
  return all;
}

Result<std::vector<IdRange>> parse_id_map(std::string_view text) {
  std::vector<IdRange> all;
  while (!text.empty()) {
    const std::string_view line = take_until(text, '\n');
    Scan scan(line);
    const auto next = [&] {
      scan.blanks();
      return scan.number<std::uint32_t>();
    };
    IdRange range;
    range.inside = next();
    range.outside = next();
    range.count = next();
    if (!scan.ok()) return fail(unexpected_line("uid_map", line));
    all.push_back(range);
  }
  return all;
}

Result<TimeOffsets> parse_timens_offsets(std::string_view text) {
  TimeOffsets offsets;
  while (!text.empty()) {
    const std::string_view line = take_until(text, '\n');
    Scan scan(line);
    // Clocks by name; kernels before 5.7 (never released with the file readable) used numbers.
    const std::string_view clock = scan.word();
    TimeOffset offset;
    scan.blanks();
    offset.seconds = scan.number<std::int64_t>();
    scan.blanks();
    offset.nanoseconds = scan.number<std::int64_t>();
    if (clock == "monotonic") offsets.monotonic = offset;
    else if (clock == "boottime") offsets.boottime = offset;
    else return fail(unexpected_line("timens_offsets", line));
    if (!scan.ok()) return fail(unexpected_line("timens_offsets", line));
  }
  return offsets;
}

namespace {

struct LimitName {
  std::string_view name;
  int resource;
};
constexpr LimitName kLimitNames[] = {
    {"Max cpu time", RLIMIT_CPU},
    {"Max file size", RLIMIT_FSIZE},
    {"Max data size", RLIMIT_DATA},
    {"Max stack size", RLIMIT_STACK},
    {"Max core file size", RLIMIT_CORE},
    {"Max resident set", RLIMIT_RSS},
    {"Max processes", RLIMIT_NPROC},
    {"Max open files", RLIMIT_NOFILE},
    {"Max locked memory", RLIMIT_MEMLOCK},
    {"Max address space", RLIMIT_AS},
    {"Max file locks", RLIMIT_LOCKS},
    {"Max pending signals", RLIMIT_SIGPENDING},
    {"Max msgqueue size", RLIMIT_MSGQUEUE},
    {"Max nice priority", RLIMIT_NICE},
    {"Max realtime priority", RLIMIT_RTPRIO},
    {"Max realtime timeout", RLIMIT_RTTIME},
};
static_assert(std::size(kLimitNames) == kLimitCount);

std::optional<std::uint64_t> limit_value(std::string_view word) {
  if (word == "unlimited") return ~std::uint64_t{0};
  return parse_number<std::uint64_t>(word);
}

}  // namespace

Result<std::array<Limit, kLimitCount>> parse_limits(std::string_view text) {
  std::array<Limit, kLimitCount> limits;
  std::size_t found = 0;
  take_until(text, '\n');  // the table's head
  while (!text.empty()) {
    const std::string_view line = take_until(text, '\n');
    for (const auto& [name, resource] : kLimitNames) {
      if (!line.starts_with(name)) continue;
      Scan scan(line.substr(name.size()));
      scan.blanks();
      const auto soft = limit_value(scan.word());
      scan.blanks();
      const auto hard = limit_value(scan.word());
      if (!soft || !hard) return fail(unexpected_line("limits", line));
      limits[static_cast<std::size_t>(resource)] = {*soft, *hard};
      ++found;
      break;
    }
  }
  if (found != kLimitCount) return fail(Error::unsupported("limits lacks some resources"));
  return limits;
}

std::vector<std::uint64_t> parse_auxv(std::string_view bytes) {
  std::vector<std::uint64_t> words(bytes.size() / sizeof(std::uint64_t));
  if (!words.empty()) std::memcpy(words.data(), bytes.data(), words.size() * sizeof(std::uint64_t));
  for (std::size_t i = 0; i + 1 < words.size(); i += 2) {
    if (words[i] != 0) continue;  // AT_NULL
    words.resize(i);
    break;
  }
  return words;
}

bool is_auxv_of_32_bit_code(std::span<const std::uint64_t> words) {
  // Keys are small: what has an upper half has a value there.
  for (std::size_t i = 0; i < words.size(); i += 2)
    if (words[i] >> 32) return true;
  return false;
}

}  // namespace dormouse::proc
