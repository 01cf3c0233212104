#include "oci/runc_state.h"

#include <algorithm>
#include <array>

#include "base/format.h"
#include "base/text.h"
#include "oci/json.h"

namespace dormouse::oci {
namespace {

constexpr std::string_view kRemedy = "is this the state of a container of runc 1.0 or later?";

struct NamespaceName {
  std::string_view name;
  NamespaceKind kind;
};
constexpr std::array kNamespaceNames = {
    NamespaceName{"NEWNS", NamespaceKind::kMount},    NamespaceName{"NEWPID", NamespaceKind::kPid},
    NamespaceName{"NEWNET", NamespaceKind::kNetwork}, NamespaceName{"NEWIPC", NamespaceKind::kIpc},
    NamespaceName{"NEWUTS", NamespaceKind::kUts},     NamespaceName{"NEWUSER", NamespaceKind::kUser},
    NamespaceName{"NEWCGROUP", NamespaceKind::kCgroup}, NamespaceName{"NEWTIME", NamespaceKind::kTime},
};

Result<> parse_namespaces(const Node& node, Config& config) {
  for (const auto all = TRY(node.list("namespaces")); const Node& element : all) {
    std::string type;
    TRY(element.need("type", type));
    const auto known = std::ranges::find(kNamespaceNames, type, &NamespaceName::name);
    if (known == kNamespaceNames.end())
      return fail(TRY(element.member("type")).wrong(format("unknown namespace '{}'", type)));
    auto& added = config.namespaces.emplace_back(Namespace{known->kind, {}});
    TRY(element.read("path", added.path));
  }
  return {};
}

// `device` is the file system's type; runc has already turned every kind of bind mount into "bind".
Result<> parse_mounts(const Node& node, Config& config) {
  for (const auto all = TRY(node.list("mounts")); const Node& element : all) {
    Mount& mount = config.mounts.emplace_back();
    TRY(element.need("destination", mount.destination));
    mount.destination = clean_path(mount.destination);
    TRY(element.read("device", mount.type));
    TRY(element.read("source", mount.source));
  }
  return {};
}

Result<> parse_devices(const Node& node, Config& config) {
  for (const auto all = TRY(node.list("devices")); const Node& element : all) {
    Device& device = config.devices.emplace_back();
    std::uint32_t type = 'c';  // a character's number
    TRY(element.need("path", device.path));
    device.path = clean_path(device.path);
    TRY(element.read("type", type));
    device.type = static_cast<char>(type);
    TRY(element.read("major", device.major));
    TRY(element.read("minor", device.minor));
  }
  return {};
}

// Annotations are kept as "key=value", and the bundle's path stands among them.
Result<> parse_labels(const Node& node, RuncState& state) {
  std::vector<std::string> labels;
  TRY(node.read("labels", labels));
  for (std::string_view value : labels) {
    const std::string key(take_until(value, '='));
    if (key == "bundle")
      state.bundle = value;
    else
      state.config.annotations[key] = value;
  }
  return {};
}

Result<> parse_config_part(const Node& node, RuncState& state) {
  Config& config = state.config;
  TRY(node.need("rootfs", config.rootfs));
  if (!config.rootfs.starts_with('/')) return fail(TRY(node.member("rootfs")).wrong("must be absolute"));
  TRY(node.read("readonlyfs", config.rootfs_readonly));
  TRY(node.read("version", config.oci_version));
  TRY(node.read("mask_paths", config.masked_paths));
  TRY(node.read("readonly_paths", config.readonly_paths));
  TRY(node.read("mount_label", config.mount_label));
  TRY(parse_mounts(node, config));
  TRY(parse_devices(node, config));
  TRY(parse_namespaces(node, config));
  return parse_labels(node, state);
}

}  // namespace

Result<RuncState> parse_runc_state(std::string_view text, const std::string& file) {
  const Document document = TRY(Document::parse(text, file, std::string(kRemedy)));
  const Node root = document.root();
  RuncState state;
  TRY(root.need("id", state.id));
  TRY(root.need("init_process_pid", state.init_pid));
  TRY(root.need("init_process_start", state.init_start_ticks));
  TRY(root.read("created", state.created));
  TRY(root.read("cgroup_paths", state.cgroup_paths));
  TRY(root.read("external_descriptors", state.external_descriptors));
  const Node config = TRY(root.member("config"));
  TRY(parse_config_part(config, state));
  return state;
}

}  // namespace dormouse::oci
