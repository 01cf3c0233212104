#include "oci/config_linux.h"

#include <algorithm>
#include <array>

#include "base/format.h"

namespace dormouse::oci {
namespace {

struct NamespaceName {
  NamespaceKind kind;
  std::string_view in_config, in_proc;
};
constexpr std::array kNamespaceNames = {
    NamespaceName{NamespaceKind::kMount, "mount", "mnt"},
    NamespaceName{NamespaceKind::kPid, "pid", "pid"},
    NamespaceName{NamespaceKind::kNetwork, "network", "net"},
    NamespaceName{NamespaceKind::kIpc, "ipc", "ipc"},
    NamespaceName{NamespaceKind::kUts, "uts", "uts"},
    NamespaceName{NamespaceKind::kUser, "user", "user"},
    NamespaceName{NamespaceKind::kCgroup, "cgroup", "cgroup"},
    NamespaceName{NamespaceKind::kTime, "time", "time"},
};

Result<Namespace> parse_namespace(const Node& node) {
  std::string type;
  Namespace result;
  TRY(node.need("type", type));
  const auto known = std::ranges::find(kNamespaceNames, type, &NamespaceName::in_config);
  if (known == kNamespaceNames.end())
    return fail(TRY(node.member("type"))
                    .wrong(format("'{}' is no kind of namespace (mount, pid, network, ipc, uts, user, cgroup, time)", type)));
  result.kind = known->kind;
  TRY(node.read("path", result.path));
  if (!result.path.empty() && !result.path.starts_with('/'))
    return fail(TRY(node.member("path")).wrong("must be absolute"));
  return result;
}

Result<> parse_namespaces(const Node& node, Config& config) {
  for (const auto all = TRY(node.list("namespaces")); const Node& element : all) {
    const Namespace one = TRY(parse_namespace(element));
    if (config.find_namespace(one.kind)) return fail(element.wrong("this kind of namespace is listed twice"));
    config.namespaces.push_back(one);
  }
  return {};
}

Result<std::vector<IdMapping>> parse_mappings(const Node& node, std::string_view key) {
  std::vector<IdMapping> mappings;
  for (const auto all = TRY(node.list(key)); const Node& element : all) {
    IdMapping& mapping = mappings.emplace_back();
    TRY(element.need("containerID", mapping.container_id));
    TRY(element.need("hostID", mapping.host_id));
    TRY(element.need("size", mapping.size));
  }
  return mappings;
}

// Paths inside the container.
Result<> parse_paths(const Node& node, std::string_view key, std::vector<std::string>& into) {
  for (const auto all = TRY(node.list(key)); const Node& element : all) {
    std::string path;
    TRY(element.get(path));
    if (!path.starts_with('/')) return fail(element.wrong("must be absolute"));
    into.push_back(clean_path(path));
  }
  return {};
}

// One letter out of `allowed`.
Result<> read_letter(const Node& node, std::string_view key, std::string_view allowed, char& into) {
  std::string text;
  TRY(node.read(key, text));
  if (text.empty()) return {};
  if (text.size() != 1 || allowed.find(text[0]) == std::string_view::npos)
    return fail(TRY(node.member(key)).wrong(format("'{}' is none of the letters {}", text, allowed)));
  into = text[0];
  return {};
}

Result<> parse_devices(const Node& node, Config& config) {
  for (const auto all = TRY(node.list("devices")); const Node& element : all) {
    Device device;
    TRY(element.need("path", device.path));
    if (!device.path.starts_with('/')) return fail(TRY(element.member("path")).wrong("must be absolute"));
    device.path = clean_path(device.path);
    TRY(read_letter(element, "type", "cubp", device.type));
    if (device.type == 'u') device.type = 'c';  // "unbuffered", an old name
    if (device.type != 'p') {
      TRY(element.need("major", device.major));
      TRY(element.need("minor", device.minor));
    }
    std::erase_if(config.devices, [&](const Device& other) { return other.path == device.path; });
    config.devices.push_back(device);
  }
  return {};
}

Result<DeviceRule> parse_device_rule(const Node& node) {
  DeviceRule rule;
  TRY(node.need("allow", rule.allow));
  TRY(read_letter(node, "type", "abc", rule.type));
  TRY(node.read("major", rule.major));
  TRY(node.read("minor", rule.minor));
  for (auto* number : {&rule.major, &rule.minor})
    if (*number == -1) number->reset();  // another way to write "any"
  TRY(node.read("access", rule.access));
  if (rule.access.empty()) rule.access = "rwm";
  if (rule.access.find_first_not_of("rwm") != std::string::npos)
    return fail(TRY(node.member("access")).wrong(format("'{}' is not made of the letters rwm", rule.access)));
  return rule;
}

Result<> parse_memory(const Node& node, Resources& resources) {
  TRY(node.read("limit", resources.memory_limit));
  TRY(node.read("reservation", resources.memory_reservation));
  TRY(node.read("swap", resources.memory_swap));
  TRY(node.read("disableOOMKiller", resources.disable_oom_killer));
  TRY(node.read("swappiness", resources.memory_swappiness));
  if (resources.memory_swappiness == -1) resources.memory_swappiness.reset();  // another way to write "unset"
  if (resources.memory_swappiness && (*resources.memory_swappiness < 0 || *resources.memory_swappiness > 100))
    return fail(TRY(node.member("swappiness")).wrong("must be from 0 to 100"));
  return {};
}

Result<> parse_cpu(const Node& node, Resources& resources) {
  TRY(node.read("shares", resources.cpu_shares));
  TRY(node.read("quota", resources.cpu_quota));
  TRY(node.read("period", resources.cpu_period));
  TRY(node.read("burst", resources.cpu_burst));
  TRY(node.read("realtimeRuntime", resources.cpu_realtime_runtime));
  TRY(node.read("realtimePeriod", resources.cpu_realtime_period));
  TRY(node.read("idle", resources.cpu_idle));
  TRY(node.read("cpus", resources.cpuset_cpus));
  return node.read("mems", resources.cpuset_mems);
}

// A key of "unified" is the name of a file in the cgroup's own directory.
Result<> check_unified(const Node& node, const Resources& resources) {
  for (const auto& [name, value] : resources.unified)
    if (name.find('/') != std::string::npos || name.find('.') == std::string::npos || name.starts_with('.'))
      return fail(node.wrong(format("'{}' is not the name of a cgroup file", name)));
  return {};
}

Result<> parse_resources(const Node& node, Resources& resources) {
  for (const auto all = TRY(node.list("devices")); const Node& element : all) resources.devices.push_back(TRY(parse_device_rule(element)));
  if (const auto memory = TRY(node.find("memory"))) TRY(parse_memory(*memory, resources));
  if (const auto cpu = TRY(node.find("cpu"))) TRY(parse_cpu(*cpu, resources));
  if (const auto pids = TRY(node.find("pids"))) TRY(pids->read("limit", resources.pids_limit));
  if (const auto blkio = TRY(node.find("blockIO"))) TRY(blkio->read("weight", resources.blkio_weight));
  for (const auto all = TRY(node.list("hugepageLimits")); const Node& element : all) {
    HugepageLimit& limit = resources.hugepage_limits.emplace_back();
    TRY(element.need("pageSize", limit.page_size));
    if (limit.page_size.find('/') != std::string::npos)
      return fail(TRY(element.member("pageSize")).wrong(format("'{}' is no page size", limit.page_size)));
    TRY(element.need("limit", limit.limit_bytes));
  }
  TRY(node.read("unified", resources.unified));
  return check_unified(node, resources);
}

}  // namespace

std::string_view proc_name(NamespaceKind kind) {
  return std::ranges::find(kNamespaceNames, kind, &NamespaceName::kind)->in_proc;
}

const std::vector<Device>& default_devices() {
  static const std::vector<Device> devices = {
      {'c', "/dev/null", 1, 3},  {'c', "/dev/random", 1, 8}, {'c', "/dev/full", 1, 7},
      {'c', "/dev/tty", 5, 0},   {'c', "/dev/zero", 1, 5},   {'c', "/dev/urandom", 1, 9},
  };
  return devices;
}

Result<> parse_linux(const Node& node, Config& config) {
  TRY(parse_namespaces(node, config));
  config.uid_mappings = TRY(parse_mappings(node, "uidMappings"));
  config.gid_mappings = TRY(parse_mappings(node, "gidMappings"));
  TRY(parse_paths(node, "maskedPaths", config.masked_paths));
  TRY(parse_paths(node, "readonlyPaths", config.readonly_paths));
  TRY(parse_devices(node, config));
  TRY(node.read("cgroupsPath", config.cgroups_path));
  TRY(node.read("mountLabel", config.mount_label));
  if (const auto resources = TRY(node.find("resources"))) TRY(parse_resources(*resources, config.resources));
  return {};
}

}  // namespace dormouse::oci
