#include "kernel/proc/fdinfo.h"

#include "base/text.h"
#include "kernel/proc/scan.h"

namespace dormouse::proc {

Result<FdInfo> parse_fdinfo(std::string_view text) {
  FdInfo info;
  bool seen_flags = false;
  while (!text.empty()) {
    const std::string_view line = take_until(text, '\n');
    const auto colon = line.find(':');
    const std::string_view key = line.substr(0, colon);
    Scan scan(colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1));
    scan.blanks();
    // The generic lines come first; a file's own line may reuse their names ("flags:" of some).
    if (info.rest.empty() && key == "pos") {
      // Printed as a signed number; offsets of /proc/PID/mem have the top bit set.
      info.position = static_cast<std::uint64_t>(scan.number<std::int64_t>());
    } else if (info.rest.empty() && key == "flags" && !seen_flags) {
      info.flags = scan.number<std::uint32_t>(8);
      seen_flags = true;
    } else if (info.rest.empty() && key == "mnt_id") {
      info.mount_id = scan.number<std::uint32_t>();
    } else if (info.rest.empty() && key == "ino") {
      info.inode = scan.number<std::uint64_t>();
    } else {
      info.rest.emplace_back(line);
    }
    if (!scan.ok()) return fail(unexpected_line("fdinfo", line));
  }
  if (!seen_flags) return fail(Error::unsupported("fdinfo has no flags line"));
  return info;
}

std::optional<std::string_view> FdInfo::value(std::string_view key) const {
  for (std::string_view line : rest)
    if (consume_prefix(line, key) && consume_prefix(line, ":")) return trim(line);
  return std::nullopt;
}

}  // namespace dormouse::proc
