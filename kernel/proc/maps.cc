#include "kernel/proc/maps.h"

#include <algorithm>
#include <array>

#include "base/text.h"
#include "kernel/proc/scan.h"
#include "kernel/proc/smaps.h"

namespace dormouse::proc {

namespace {

struct FlagWord {
  char word[3];
  VmFlag flag;
};
constexpr FlagWord kFlagWords[] = {
    {"rd", VmFlag::kRead},         {"wr", VmFlag::kWrite},      {"ex", VmFlag::kExec},
    {"sh", VmFlag::kShared},       {"mr", VmFlag::kMayRead},    {"mw", VmFlag::kMayWrite},
    {"me", VmFlag::kMayExec},      {"ms", VmFlag::kMayShare},   {"gd", VmFlag::kGrowsDown},
    {"pf", VmFlag::kPfnMap},       {"lo", VmFlag::kLocked},     {"io", VmFlag::kIo},
    {"sr", VmFlag::kSequential},   {"rr", VmFlag::kRandom},     {"dc", VmFlag::kDontCopy},
    {"de", VmFlag::kDontExpand},   {"lf", VmFlag::kLockOnFault}, {"ac", VmFlag::kAccount},
    {"nr", VmFlag::kNoReserve},    {"ht", VmFlag::kHugeTlb},    {"sf", VmFlag::kSync},
    {"ar", VmFlag::kArch},         {"wf", VmFlag::kWipeOnFork}, {"dd", VmFlag::kDontDump},
    {"sd", VmFlag::kSoftDirty},    {"mm", VmFlag::kMixedMap},   {"hg", VmFlag::kHugePage},
    {"nh", VmFlag::kNoHugePage},   {"mg", VmFlag::kMergeable},  {"um", VmFlag::kUffdMissing},
    {"uw", VmFlag::kUffdWriteProtect}, {"ui", VmFlag::kUffdMinor}, {"mt", VmFlag::kMemoryTagged},
    {"ss", VmFlag::kShadowStack},  {"sl", VmFlag::kSealed},     {"dp", VmFlag::kDroppable},
};

// Two lower-case letters index straight into the answer: smaps of a large task has 10^5 of them.
constexpr std::size_t kLetters = 26;
constexpr auto kFlagOf = [] {
  std::array<VmFlag, kLetters * kLetters> table{};
  table.fill(VmFlag::kOther);
  for (const auto& [word, flag] : kFlagWords)
    table[static_cast<std::size_t>(word[0] - 'a') * kLetters +
          static_cast<std::size_t>(word[1] - 'a')] = flag;
  return table;
}();

VmFlags parse_flags(std::string_view text) {
  VmFlags flags;
  Scan scan(text);
  for (scan.blanks(); !scan.at_end(); scan.blanks()) {
    const std::string_view word = scan.word();
    const bool known = word.size() == 2 && word[0] >= 'a' && word[0] <= 'z' && word[1] >= 'a' &&
                       word[1] <= 'z';
    flags.set(known ? kFlagOf[static_cast<std::size_t>(word[0] - 'a') * kLetters +
                              static_cast<std::size_t>(word[1] - 'a')]
                    : VmFlag::kOther);
  }
  return flags;
}

bool parse_mapping(std::string_view line, Vma& vma) {
  Scan scan(line);
  vma.start = scan.number<std::uint64_t>(16);
  scan.expect('-');
  vma.end = scan.number<std::uint64_t>(16);
  scan.expect(' ');
  vma.readable = scan.either('r', '-');
  vma.writable = scan.either('w', '-');
  vma.executable = scan.either('x', '-');
  vma.shared = scan.either('s', 'p');
  scan.expect(' ');
  vma.offset = scan.number<std::uint64_t>(16);
  scan.expect(' ');
  vma.device_major = scan.number<std::uint32_t>(16);
  scan.expect(':');
  vma.device_minor = scan.number<std::uint32_t>(16);
  scan.expect(' ');
  vma.inode = scan.number<std::uint64_t>();
  scan.blanks();
  // Only the newline is escaped in this file, so a backslash in a name is usually itself.
  const std::string_view name = scan.rest();
  if (name.find("\\012") == std::string_view::npos) {
    vma.name = name;
  } else {
    vma.name.clear();
    for (std::size_t i = 0; i < name.size(); ++i) {
      if (name.substr(i).starts_with("\\012")) {
        vma.name += '\n';
        i += 3;
      } else {
        vma.name += name[i];
      }
    }
  }
  return scan.ok() && vma.start < vma.end;
}

std::uint64_t* number_field(Vma& vma, std::string_view key) {
  // Cheap rejection by the first letter; most of smaps' lines are not wanted.
  switch (key.empty() ? '\0' : key.front()) {
    case 'R': return key == "Rss" ? &vma.rss_kb : nullptr;
    case 'A':
      if (key == "Anonymous") return &vma.anonymous_kb;
      return key == "AnonHugePages" ? &vma.anon_huge_kb : nullptr;
    case 'S':
      if (key == "Swap") return &vma.swap_kb;
      if (key == "Shared_Hugetlb") return &vma.hugetlb_kb;
      return key == "Shared_Dirty" ? &vma.shared_dirty_kb : nullptr;
    case 'P':
      if (key == "Private_Hugetlb") return &vma.hugetlb_kb;
      if (key == "ProtectionKey") return &vma.protection_key;
      return key == "Private_Dirty" ? &vma.private_dirty_kb : nullptr;
    case 'K': return key == "KernelPageSize" ? &vma.kernel_page_kb : nullptr;
    default: return nullptr;
  }
}

}  // namespace

Result<std::vector<Vma>> parse_maps(std::string_view text) {
  std::vector<Vma> all;
  all.reserve(text.size() / 64);
  while (!text.empty()) {
    const std::string_view line = take_until(text, '\n');
    if (!parse_mapping(line, all.emplace_back())) return fail(unexpected_line("maps", line));
  }
  return all;
}

Result<std::vector<Vma>> parse_smaps(std::string_view text) {
  SmapsParser parser;
  TRY(parser.add(text));
  return parser.finish();
}

Result<> SmapsParser::add(std::string_view piece) {
  if (!begun_.empty()) {
    const auto end = piece.find('\n');
    begun_ += piece.substr(0, end);
    if (end == std::string_view::npos) return {};
    TRY(take(begun_));
    begun_.clear();
    piece.remove_prefix(end + 1);
  }
  for (auto end = piece.find('\n'); end != std::string_view::npos; end = piece.find('\n')) {
    TRY(take(piece.substr(0, end)));
    piece.remove_prefix(end + 1);
  }
  begun_ = piece;
  return {};
}

Result<std::vector<Vma>> SmapsParser::finish() {
  if (!begun_.empty()) TRY(take(begun_));
  tell_of_last();
  return std::move(all_);
}

void SmapsParser::tell_of_last() const {
  if (each_ && !all_.empty()) each_(all_.back());
}

Result<> SmapsParser::take(std::string_view line) {
  // Attribute lines begin with an upper-case letter, mappings with a hexadecimal digit.
  if (line.empty() || line.front() < 'A' || line.front() > 'Z') {
    tell_of_last();
    if (!parse_mapping(line, all_.emplace_back())) return fail(unexpected_line("smaps", line));
    return {};
  }
  const auto colon = line.find(':');
  if (colon == std::string_view::npos || all_.empty()) return fail(unexpected_line("smaps", line));
  const std::string_view key = line.substr(0, colon);
  if (key == "VmFlags") {
    all_.back().flags = parse_flags(line.substr(colon + 1));
  } else if (std::uint64_t* const field = number_field(all_.back(), key)) {
    Scan scan(line.substr(colon + 1));
    scan.blanks();
    *field += scan.number<std::uint64_t>();
    if (!scan.ok()) return fail(unexpected_line("smaps", line));
  }
  return {};
}

}  // namespace dormouse::proc
