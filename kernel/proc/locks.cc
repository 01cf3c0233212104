#include "kernel/proc/locks.h"

#include <fcntl.h>

#include <optional>

#include "base/text.h"
#include "kernel/proc/scan.h"

namespace dormouse::proc {
namespace {

std::optional<LockKind> kind_named(std::string_view name) {
  if (name == "POSIX") return LockKind::kPosix;
  if (name == "FLOCK") return LockKind::kFlock;
  if (name == "OFDLCK") return LockKind::kOfd;
  if (name == "LEASE") return LockKind::kLease;
  return std::nullopt;
}

std::optional<int> type_named(std::string_view name) {
  if (name == "READ") return F_RDLCK;
  if (name == "WRITE") return F_WRLCK;
  if (name == "UNLCK") return F_UNLCK;
  return std::nullopt;
}

}  // namespace

Result<FileLock> parse_lock(std::string_view line) {
  const auto words = split_blanks(line);
  const auto unexpected = [&] { return fail(unexpected_line("locks", line)); };
  if (words.size() != 8) return unexpected();
  const auto kind = kind_named(words[1]);
  const auto type = type_named(words[3]);
  const auto pid = parse_number<pid_t>(words[4]);
  const auto first = parse_number<std::int64_t>(words[6]);
  const auto last = words[7] == "EOF" ? FileLock::kEnd : parse_number<std::int64_t>(words[7]);
  if (!kind || !type || !pid || !first || !last || *first < 0 || *last < *first) return unexpected();
  const bool is_lease = *kind == LockKind::kLease;
  // Mandatory locks and shares of other systems are no more since Linux 5.15 and 5.16.
  if (words[2] != "ADVISORY" && !(is_lease && (words[2] == "ACTIVE" || words[2] == "BREAKING"))) return unexpected();
  return FileLock{*kind, *type, words[2] == "BREAKING", *pid, std::string(words[5]), *first, *last};
}

Result<std::vector<std::uint64_t>> parse_leases_against_reading(std::string_view text) {
  std::vector<std::uint64_t> inodes;
  while (!text.empty()) {
    const std::string_view line = take_until(text, '\n');
    const auto words = split_blanks(line);
    // DELEG: of the kernel's file server. Of those who wait ("->") the kind is a word further on.
    if (words.size() < 6 || (words[1] != "LEASE" && words[1] != "DELEG")) continue;
    // Of one that is being broken the line tells what it is going to be.
    if (words[2] == "ACTIVE" && words[3] == "READ") continue;
    const std::string_view file = words[5];
    const auto inode = parse_number<std::uint64_t>(file.substr(file.rfind(':') + 1));
    if (!inode) return fail(unexpected_line("locks", line));
    inodes.push_back(*inode);
  }
  return inodes;
}

}  // namespace dormouse::proc
