#include "engine/mounts/mount_flags.h"

#include <sys/mount.h>

#include <algorithm>
#include <array>

#include "base/format.h"
#include "base/text.h"

namespace dormouse::engine {

namespace {

struct Word {
  std::string_view text;
  std::uint32_t flag;
};

constexpr std::array kMountWords{
    Word{"rw", 0},           Word{"ro", MS_RDONLY},         Word{"nosuid", MS_NOSUID},
    Word{"nodev", MS_NODEV}, Word{"noexec", MS_NOEXEC},     Word{"noatime", MS_NOATIME},
    Word{"nodiratime", MS_NODIRATIME}, Word{"relatime", MS_RELATIME},
    Word{"nosymfollow", MS_NOSYMFOLLOW},
};
constexpr std::array kSuperWords{
    Word{"rw", 0},
    Word{"ro", MS_RDONLY},
    Word{"sync", MS_SYNCHRONOUS},
    Word{"dirsync", MS_DIRSYNC},
    Word{"mand", MS_MANDLOCK},
};

struct Pair {
  std::uint32_t flag;
  std::uint64_t attribute;
};
constexpr std::array kAttributes{
    Pair{MS_RDONLY, MOUNT_ATTR_RDONLY},         Pair{MS_NOSUID, MOUNT_ATTR_NOSUID},
    Pair{MS_NODEV, MOUNT_ATTR_NODEV},           Pair{MS_NOEXEC, MOUNT_ATTR_NOEXEC},
    Pair{MS_NODIRATIME, MOUNT_ATTR_NODIRATIME}, Pair{MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW},
};

const Word* find_word(const auto& words, std::string_view text) {
  const auto found = std::ranges::find(words, text, &Word::text);
  return found == words.end() ? nullptr : &*found;
}

// "uid=1000" of the node as the same owner is called inside.
std::string translated(std::string_view word, const MapId& map_uid, const MapId& map_gid) {
  for (const auto& [prefix, map] : {std::pair{std::string_view("uid="), &map_uid},
                                    std::pair{std::string_view("gid="), &map_gid}}) {
    std::string_view number = word;
    if (!*map || !consume_prefix(number, prefix)) continue;
    if (const auto id = parse_number<std::uint32_t>(number)) return format("{}{}", prefix, (*map)(*id));
  }
  return std::string(word);
}

}  // namespace

Result<std::uint32_t> mount_flags(std::string_view options) {
  std::uint32_t flags = 0;
  while (!options.empty()) {
    const std::string_view text = take_until(options, ',');
    const Word* const word = find_word(kMountWords, text);
    if (!word) return fail(Error::unsupported(format("mount option '{}'", text)));
    flags |= word->flag;
  }
  if (!(flags & (MS_RELATIME | MS_NOATIME))) flags |= MS_STRICTATIME;
  return flags;
}

SuperOptions super_options(std::string_view options, const MapId& map_uid, const MapId& map_gid) {
  SuperOptions result;
  while (!options.empty()) {
    const std::string_view text = take_until(options, ',');
    if (const Word* const word = find_word(kSuperWords, text)) {
      result.flags |= word->flag;
      continue;
    }
    if (!result.rest.empty()) result.rest += ',';
    result.rest += translated(text, map_uid, map_gid);
  }
  return result;
}

SplitFlags split_flags(std::uint32_t flags) {
  constexpr std::uint32_t kOfTheMount = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE | MS_NOSUID |
                                        MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME;
  return {flags & kOfTheMount, flags & ~kOfTheMount};
}

std::uint64_t mount_attributes(std::uint32_t flags) {
  std::uint64_t attributes = 0;
  for (const auto& [flag, attribute] : kAttributes)
    if (flags & flag) attributes |= attribute;
  // One field of three values; relatime is zero.
  if (flags & MS_NOATIME) attributes |= MOUNT_ATTR_NOATIME;
  else if (flags & MS_STRICTATIME) attributes |= MOUNT_ATTR_STRICTATIME;
  return attributes;
}

std::uint64_t all_mount_attributes() {
  std::uint64_t attributes = MOUNT_ATTR__ATIME;
  for (const auto& pair : kAttributes) attributes |= pair.attribute;
  return attributes;
}

std::vector<OptionWord> split_options(std::string_view options) {
  std::vector<OptionWord> words;
  while (!options.empty()) {
    bool quoted = false;
    std::size_t end = 0;
    for (; end < options.size() && (quoted || options[end] != ','); ++end)
      if (options[end] == '"') quoted = !quoted;
    std::string_view text = options.substr(0, end);
    options.remove_prefix(std::min(end + 1, options.size()));
    if (text.empty()) continue;

    const auto equals = text.find('=');
    OptionWord& word = words.emplace_back();
    word.key = text.substr(0, equals);
    if (equals == std::string_view::npos) continue;
    std::string_view value = text.substr(equals + 1);
    if (value.size() >= 2 && value.starts_with('"') && value.ends_with('"'))
      value = value.substr(1, value.size() - 2);
    word.value = value;
  }
  return words;
}

std::string with_label(std::string_view options, std::string_view label) {
  std::string text;
  for (const auto& [key, value] : split_options(options)) {
    if (!text.empty()) text += ',';
    text += key;
    if (!value) continue;
    const std::string_view shown = key == "context" ? label : std::string_view(*value);
    const std::string_view quote = shown.find(',') == std::string_view::npos ? "" : "\"";
    text += format("={0}{1}{0}", quote, shown);
  }
  return text;
}

}  // namespace dormouse::engine
