// The OCI bundle's config.json, as far as it matters for saving and bringing back a container.
//
// What the checkpoint itself holds (arguments, environment, capabilities, rlimits, seccomp, …) is not
// read here: a restored process has them from its image.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dormouse::oci {

struct Mount {
  std::string destination;  // absolute and without "..", inside the container
  std::string type, source;
  std::vector<std::string> options;

  // Whatever type is written there, an option bind or rbind makes it a bind mount.
  bool is_bind() const;
  bool operator==(const Mount&) const = default;
};

enum class NamespaceKind : std::uint8_t { kMount, kPid, kNetwork, kIpc, kUts, kUser, kCgroup, kTime };

// The name under /proc/PID/ns: "mnt", "pid", "net", …
std::string_view proc_name(NamespaceKind kind);

struct Namespace {
  NamespaceKind kind{};
  std::string path;  // empty: a new one
  bool operator==(const Namespace&) const = default;
};

struct IdMapping {
  std::uint32_t container_id = 0, host_id = 0, size = 0;
  bool operator==(const IdMapping&) const = default;
};

struct Device {
  char type = 'c';  // c, b or p (fifo)
  std::string path;
  std::int64_t major = 0, minor = 0;
};

// One line of the device cgroup. No number: any.
struct DeviceRule {
  bool allow = false;
  char type = 'a';  // a (all), b or c
  std::optional<std::int64_t> major, minor;
  std::string access;  // out of "rwm"
};

struct HugepageLimit {
  std::string page_size;  // as in the file's name: "2MB"
  std::uint64_t limit_bytes = 0;
};

// Numbers as in the specification: bytes, microseconds; -1 means no limit where that makes sense.
struct Resources {
  std::optional<std::int64_t> memory_limit, memory_reservation, memory_swap, memory_swappiness;
  bool disable_oom_killer = false;
  std::optional<std::uint64_t> cpu_shares, cpu_period, cpu_burst, cpu_realtime_period;
  std::optional<std::int64_t> cpu_quota, cpu_realtime_runtime, cpu_idle;
  std::string cpuset_cpus, cpuset_mems;
  std::optional<std::int64_t> pids_limit;
  std::optional<std::uint32_t> blkio_weight;
  std::vector<HugepageLimit> hugepage_limits;
  std::vector<DeviceRule> devices;
  std::map<std::string, std::string> unified;  // files of cgroup v2, as they are
};

struct Hook {
  std::string path;  // absolute, in the runtime's namespaces
  std::vector<std::string> args, env;
  std::optional<std::chrono::seconds> timeout;
};

struct Hooks {
  std::vector<Hook> prestart, create_runtime, create_container, start_container, poststart, poststop;
};

struct Config {
  std::string oci_version;
  std::string rootfs;  // absolute path on the node
  bool rootfs_readonly = false;
  std::vector<Mount> mounts;
  std::vector<Namespace> namespaces;
  std::vector<IdMapping> uid_mappings, gid_mappings;
  std::vector<std::string> masked_paths, readonly_paths;
  // Device nodes of /dev, including those that every container has.
  std::vector<Device> devices;
  std::string cgroups_path;
  Resources resources;
  Hooks hooks;
  std::map<std::string, std::string> annotations;
  bool terminal = false;
  std::string apparmor_profile, selinux_label, mount_label;

  // The first namespace of that kind; null if the container uses the node's.
  const Namespace* find_namespace(NamespaceKind kind) const;
};

// Parses the text of `file` for a bundle at `bundle` (absolute), from which relative paths count.
// Checks what the kernel will not: paths that leave the container, namespaces listed twice, hooks
// without an absolute path. Errors are kBadOption and name file, place, expectation and remedy.
Result<Config> parse_config(std::string_view text, const std::string& file, const std::string& bundle);

// Path without ".", ".." and doubled slashes, taken as if "/" were above it: "a/../../b" is "/b".
std::string clean_path(std::string_view path);

// What may name a container: letters, digits, "_+-.", neither "." nor "..". It becomes a directory's
// name and a cgroup's.
[[nodiscard]] Result<> check_container_id(std::string_view id);

// /dev/null and its like: nodes that a runtime makes in every container.
const std::vector<Device>& default_devices();

}  // namespace dormouse::oci
