// What the caller declared to come from outside: "KIND[KEY]:VALUE", e.g. "net[4026532281]:extRootNetNS".
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/options.h"

namespace dormouse::engine {

// The VALUE of the first entry of that kind and key ("" if it has none).
std::optional<std::string_view> external_value(const std::vector<std::string>& externals,
                                               std::string_view kind, std::string_view key);

// Mounts may be named in two ways: options.external_mounts or "mnt[KEY]:VALUE".
std::optional<std::string_view> external_mount(const CommonOptions& options, std::string_view key);

// "mnt[]" stands for all mounts that can be recognised; flags after the colon: m, masters outside are fine;
// s, sharing with outside is fine.
struct AutoExternal {
  bool mounts = false, masters = false, sharing = false;
};
AutoExternal auto_external(const CommonOptions& options);

}  // namespace dormouse::engine
