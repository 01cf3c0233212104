#include "engine/externals.h"

#include "base/text.h"

namespace dormouse::engine {

std::optional<std::string_view> external_value(const std::vector<std::string>& externals,
                                               std::string_view kind, std::string_view key) {
  for (std::string_view entry : externals) {
    if (!consume_prefix(entry, kind) || !consume_prefix(entry, "[") || !consume_prefix(entry, key) ||
        !consume_prefix(entry, "]"))
      continue;
    if (entry.empty() || consume_prefix(entry, ":")) return entry;
  }
  return std::nullopt;
}

std::optional<std::string_view> external_mount(const CommonOptions& options, std::string_view key) {
  for (const auto& mount : options.external_mounts)
    if (mount.key == key) return mount.value;
  if (key.empty()) return std::nullopt;
  return external_value(options.externals, "mnt", key);
}

AutoExternal auto_external(const CommonOptions& options) {
  AutoExternal result{.mounts = options.auto_external_mounts};
  if (const auto flags = external_value(options.externals, "mnt", "")) {
    result.mounts = true;
    result.masters = flags->find('m') != std::string_view::npos;
    result.sharing = flags->find('s') != std::string_view::npos;
  }
  return result;
}

}  // namespace dormouse::engine
