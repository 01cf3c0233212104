#include "shim/oci_externals.h"

#include "base/format.h"
#include "base/text.h"
#include "oci/json.h"

namespace dormouse::shim {
namespace {

constexpr const char* kNullDevice = "/dev/null";

// "/sys/fs/cgroup/cpu,cpuacct": the hierarchies appear in the container under the same last names.
std::string last_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// v1 cgroups appear in a container as bind mounts, unless it has a cgroup namespace: then they are
// mounts of its own, as with v2.
bool has_outside_cgroups(const oci::Config& config, const NodeView& node) {
  return !config.find_namespace(oci::NamespaceKind::kCgroup) && !only_unified(node.cgroup_mounts);
}

// Calls `use(destination, hierarchy)` for every v1 hierarchy that the mount shows.
void each_v1_mount(const oci::Mount& mount, const NodeView& node,
                   const std::function<void(const std::string&, const CgroupMount&)>& use) {
  for (const CgroupMount& hierarchy : node.cgroup_mounts)
    if (!hierarchy.unified()) use(node.resolve(mount.destination + "/" + last_name(hierarchy.mount_point)), hierarchy);
}

// The name that such a namespace has in images; those of the other kinds are joined by path.
std::string_view key_of(oci::NamespaceKind kind) {
  switch (kind) {
    case oci::NamespaceKind::kNetwork: return "extRootNetNS";
    case oci::NamespaceKind::kPid: return "extRootPidNS";
    default: return {};
  }
}

}  // namespace

std::vector<engine::ExternalMount> dumped_mounts(const oci::Config& config, const NodeView& node,
                                                 const std::function<bool(const std::string&)>& is_file) {
  std::vector<engine::ExternalMount> mounts;
  const auto add = [&](const std::string& destination) { mounts.push_back({destination, destination}); };
  for (const auto& mount : config.mounts) {
    if (mount.is_bind()) add(node.resolve(mount.destination));
    if (mount.type == "cgroup" && has_outside_cgroups(config, node))
      each_v1_mount(mount, node, [&](const std::string& destination, const CgroupMount&) { add(destination); });
  }
  for (const auto& path : config.masked_paths)
    if (is_file(path)) mounts.push_back({path, kNullDevice});
  for (const auto& device : config.devices) add(node.resolve(device.path));
  return mounts;
}

std::vector<engine::ExternalMount> restored_mounts(const oci::Config& config, const NodeView& node,
                                                   const CgroupPaths& cgroup_paths) {
  std::vector<engine::ExternalMount> mounts;
  for (const auto& mount : config.mounts) {
    if (mount.is_bind()) mounts.push_back({node.resolve(mount.destination), mount.source});
    if (mount.type == "cgroup" && has_outside_cgroups(config, node))
      each_v1_mount(mount, node, [&](const std::string& destination, const CgroupMount& hierarchy) {
        const auto own = cgroup_paths.find(hierarchy.controllers.front());
        mounts.push_back({destination, own == cgroup_paths.end() ? hierarchy.mount_point : own->second});
      });
  }
  if (!config.masked_paths.empty()) mounts.push_back({kNullDevice, kNullDevice});
  for (const auto& device : config.devices) mounts.push_back({node.resolve(device.path), device.path});
  // crun names a masked file after its path.
  for (const auto& path : config.masked_paths) mounts.push_back({path, kNullDevice});
  return mounts;
}

Result<std::vector<std::string>> dumped_namespaces(
    const oci::Config& config, const std::function<Result<std::uint64_t>(const std::string&)>& inode_of) {
  std::vector<std::string> externals;
  for (const auto& one : config.namespaces) {
    if (one.path.empty() || key_of(one.kind).empty()) continue;
    const auto inode = TRY_OR(inode_of(one.path), std::move(e).object("namespace " + one.path).owner("the container"));
    externals.push_back(format("{}[{}]:{}", proc_name(one.kind), inode, key_of(one.kind)));
  }
  return externals;
}

Result<RestoredNamespaces> restored_namespaces(
    const oci::Config& config, const std::function<Result<Fd>(const std::string&)>& open_namespace) {
  RestoredNamespaces result;
  for (const auto& one : config.namespaces) {
    if (one.path.empty()) continue;
    if (one.kind == oci::NamespaceKind::kCgroup)
      return fail(Error::unsupported("a container cannot be restored into a given cgroup namespace")
                      .object("namespace " + one.path)
                      .remedy("leave the path out of linux.namespaces"));
    if (const auto key = key_of(one.kind); !key.empty()) {
      Fd fd = TRY_OR(open_namespace(one.path), std::move(e).object("namespace " + one.path)
                                                   .remedy("it must exist before the restore: linux.namespaces names it"));
      result.inherited.push_back({std::string(key), fd.get()});
      result.descriptors.push_back(std::move(fd));
    } else {
      result.joined.push_back({.kind = std::string(proc_name(one.kind)), .path = one.path, .extra = {}});
    }
  }
  return result;
}

Result<std::vector<engine::InheritedFd>> inherited_pipes(std::string_view json, const std::string& file) {
  const auto document = TRY(oci::Document::parse(json, file, "the checkpoint's descriptors.json must list the three standard descriptors"));
  if (trim(json) == "null") return std::vector<engine::InheritedFd>{};  // how Go writes an empty list
  std::vector<std::string> entries;
  TRY(document.root().get(entries));
  if (entries.size() > 3) return fail(document.root().wrong("more than three descriptors"));
  std::vector<engine::InheritedFd> inherited;
  for (std::size_t i = 0; i < entries.size(); ++i)
    if (entries[i].starts_with("pipe:")) inherited.push_back({entries[i], static_cast<int>(i)});
  return inherited;
}

}  // namespace dormouse::shim
