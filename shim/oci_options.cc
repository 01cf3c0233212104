#include "shim/oci_options.h"

#include <sched.h>

#include <algorithm>
#include <array>

#include "base/text.h"
#include "kernel/file.h"
#include "shim/config_file.h"

namespace dormouse::shim {
namespace {

constexpr const char* kConfigAnnotation = "org.criu.config";
constexpr const char* kDefaultConfigFile = "/etc/criu/runc.conf";

template <class T>
struct Named {
  std::string_view name;
  T value;
};
constexpr std::array kCgroupModes = {
    Named{"ignore", engine::CgroupMode::kIgnore}, Named{"none", engine::CgroupMode::kNone},
    Named{"props", engine::CgroupMode::kProps},   Named{"soft", engine::CgroupMode::kSoft},
    Named{"full", engine::CgroupMode::kFull},     Named{"strict", engine::CgroupMode::kStrict},
};
constexpr std::array kLogLevels = {Named{"error", 1}, Named{"warn", 2}, Named{"info", 3}, Named{"debug", 4}};

template <class Table>
auto value_of(const Table& table, std::string_view name, std::string_view option) -> Result<decltype(table[0].value)> {
  for (const auto& entry : table)
    if (entry.name == name) return entry.value;
  std::string known;
  for (const auto& entry : table) known += known.empty() ? std::string(entry.name) : ", " + std::string(entry.name);
  return fail(Error::bad_option(format("'{}' is not known", name)).object(format("option {}", option)).remedy("known are " + known));
}

}  // namespace

std::string config_file_for(const oci::Config& config) {
  const auto annotation = config.annotations.find(kConfigAnnotation);
  return annotation == config.annotations.end() ? kDefaultConfigFile : annotation->second;
}

Result<Settings> settings_for(const OciOptions& options, const oci::Config& config, const char* log_name) {
  Settings settings;
  settings.images_dir = options.image_path;
  settings.work_dir = options.work_path;
  settings.log_file = options.log_file.empty() ? log_name : options.log_file;
  settings.verbosity = TRY(value_of(kLogLevels, options.log_level, "--log-level"));
  engine::CommonOptions& common = settings.common;
  common.cgroup_mode = TRY(value_of(kCgroupModes, options.manage_cgroups, "--manage-cgroups-mode"));
  common.shell_job = options.shell_job;
  common.tcp_established = options.tcp_established;
  common.tcp_close = options.tcp_close;
  common.external_unix_sockets = options.ext_unix_sk;
  common.file_locks = options.file_locks;
  common.link_remap = options.link_remap;
  common.orphan_pts_master = true;
  // The network's content comes from hooks and from whoever gave the namespace, never from the image.
  common.empty_namespaces = CLONE_NEWNET;
  if (const auto file = config_file_for(config); !file.empty()) TRY(apply_config_file(settings, file));
  return settings;
}

Result<> make_directories(const std::string& path, mode_t mode) {
  std::string so_far;
  for (const auto part : split(path, '/')) {
    if (part.empty()) continue;
    so_far += format("/{}", part);
    const auto made = sys::mkdirat(AT_FDCWD, so_far, mode);
    if (!made && !made.error().is_kernel(EEXIST)) return fail(Error(made.error()).object("directory " + path));
  }
  return {};
}

Error summary_of(const engine::Failures& failures, const Workplace& place, const Settings& settings) {
  if (failures.all.empty()) return Error::conflict("failed without telling why", EIO);
  Error first = failures.all.front();
  if (failures.all.size() == 1) return first;
  const std::string& directory = settings.work_dir.empty() ? settings.images_dir : settings.work_dir;
  return Error::conflict(first.message(), first.err())
      .remedy(format("and {} more, see {}/{}", failures.all.size() - 1, directory, place.report_name));
}

}  // namespace dormouse::shim
