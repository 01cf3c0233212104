// Mount options in their three forms: the kernel's text, the image's MS_* bits, the MOUNT_ATTR_* bits of
// mount_setattr().
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dormouse::engine {

// "ro,nosuid,relatime" of one mount. Unknown words (a newer kernel's, or "idmapped") are unsupported.
// No atime word means strictatime: the kernel prints it that way.
Result<std::uint32_t> mount_flags(std::string_view options);

// What mountinfo says about the file system itself, split into bits and the rest.
struct SuperOptions {
  std::uint32_t flags = 0;  // MS_RDONLY, MS_SYNCHRONOUS, MS_DIRSYNC, MS_MANDLOCK
  std::string rest;         // comma separated, as a mount would be given it
};
// `map_uid` and `map_gid` translate uid=N and gid=N from the reader's ids to the container's.
using MapId = std::function<std::uint32_t(std::uint32_t)>;
SuperOptions super_options(std::string_view options, const MapId& map_uid, const MapId& map_gid);

// Images from before the two sets of flags were kept apart (no sb_flags) have them in one word.
struct SplitFlags {
  std::uint32_t mount = 0, super = 0;
};
SplitFlags split_flags(std::uint32_t flags);

// MOUNT_ATTR_* for the MS_* of one mount, all others being cleared.
std::uint64_t mount_attributes(std::uint32_t flags);
// Every bit that mount_attributes() can yield.
std::uint64_t all_mount_attributes();

// "size=64k,noswap" as key and value; a value may be quoted and then contain commas
// (context="…:s0:c1,c2"). No value: a flag.
struct OptionWord {
  std::string key;
  std::optional<std::string> value;
  friend bool operator==(const OptionWord&, const OptionWord&) = default;
};
std::vector<OptionWord> split_options(std::string_view options);

// The same options with another SELinux label, where they have one (context=…).
std::string with_label(std::string_view options, std::string_view label);

}  // namespace dormouse::engine
