// Configuration files: one option a line, as on the command line but without the dashes.
//
//   # a comment
//   tcp-established
//   no-link-remap
//   verbosity 4
//   ghost-limit=2M                  # a comment again
//   lsm-profile "selinux:a \"b\" c"
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "shim/option_table.h"

namespace dormouse::shim {

// The uses in a file's text; `name` is the file's, for messages.
Result<std::vector<OptionUse>> parse_config(std::string_view text, std::string_view name);

// Reads and applies a file. One that does not exist is like an empty one.
[[nodiscard]] Result<> apply_config_file(Settings& settings, const std::string& path);

// The files that are read before the command line or the first request; empty: none.
struct ConfigFiles {
  std::string global{}, user{};  // the two default ones
  std::string environment{};     // $CRIU_CONFIG_FILE
  std::string chosen{};          // --config
};

// /etc/criu/default.conf, $HOME/.criu/default.conf, $CRIU_CONFIG_FILE.
ConfigFiles config_files_from_environment();

[[nodiscard]] Result<> apply_config_files(Settings& settings, const ConfigFiles& files);

}  // namespace dormouse::shim
