// What the command line of `dormouse` asks for, and how it becomes settings of the engine.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "oci/config.h"
#include "shim/settings.h"
#include "shim/workplace.h"

namespace dormouse::shim {

// Of both checkpoint and restore. Paths are absolute.
struct OciOptions {
  std::string id;
  std::vector<std::string> roots;  // where states are looked for; ours is made in the first
  std::string image_path, work_path;  // no work path: the images'
  std::string log_file;               // empty: dump.log or restore.log in the work path
  std::string log_level = "debug";
  std::string manage_cgroups = "soft";
  bool tcp_established = false, tcp_close = false, shell_job = false, file_locks = false, ext_unix_sk = false;
  bool link_remap = false;
  Log* log = nullptr;  // for what a person should know though nothing failed; may be null
};

// The settings that follow from options and configuration alone. Settings of the configuration file
// (annotation org.criu.config, else /etc/criu/runc.conf) are applied last, as with runc.
Result<Settings> settings_for(const OciOptions& options, const oci::Config& config, const char* log_name);

// Where settings of such a file come from; empty: nowhere.
std::string config_file_for(const oci::Config& config);

// Creates the directory with those above it.
[[nodiscard]] Result<> make_directories(const std::string& path, mode_t mode);

// One line for many failures: the first, and how many there are besides.
Error summary_of(const engine::Failures& failures, const Workplace& place, const Settings& settings);

}  // namespace dormouse::shim
