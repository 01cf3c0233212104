// What of a container comes from outside: mounts, namespaces, the standard descriptors. Derived from
// the configuration exactly as runc derives it for the reference engine, so that images go both ways.
//
//   what                        name in the image            source on restore
//   bind mount                  its destination              the bundle's source
//   v1 cgroup mount             destination/<hierarchy>      the container's own cgroup
//   masked file                 "/dev/null"                  /dev/null
//   device node                 its path                     the node of the same path
//   network namespace by path   "extRootNetNS"               the path's namespace, as a descriptor
//   pid namespace by path       "extRootPidNS"               likewise
//   other namespace by path     (not named)                  joined by path
//   pipe on descriptor 0, 1, 2  "pipe:[inode]"               our own 0, 1, 2
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "engine/options.h"
#include "oci/config.h"
#include "shim/oci_cgroup.h"

namespace dormouse::shim {

// What the derivation has to know of the node; values, so that it is pure.
struct NodeView {
  std::span<const CgroupMount> cgroup_mounts;
  // Where a path of the configuration really is in the container's root (links followed).
  std::function<std::string(const std::string&)> resolve;
};

// `is_file`: whether a path of the running container exists and is no directory.
std::vector<engine::ExternalMount> dumped_mounts(const oci::Config& config, const NodeView& node,
                                                 const std::function<bool(const std::string&)>& is_file);
// `cgroup_paths`: of the container that is being restored.
std::vector<engine::ExternalMount> restored_mounts(const oci::Config& config, const NodeView& node,
                                                   const CgroupPaths& cgroup_paths);

// "net[4026532]:extRootNetNS"; `inode_of` finds the namespace behind a path.
Result<std::vector<std::string>> dumped_namespaces(
    const oci::Config& config, const std::function<Result<std::uint64_t>(const std::string&)>& inode_of);

// Namespaces to restore into: descriptors to be inherited, others to be joined.
struct RestoredNamespaces {
  std::vector<Fd> descriptors;  // behind `inherited`
  std::vector<engine::InheritedFd> inherited;
  std::vector<engine::JoinNamespace> joined;
};
Result<RestoredNamespaces> restored_namespaces(
    const oci::Config& config, const std::function<Result<Fd>(const std::string&)>& open_namespace);

// The file that remembers the standard descriptors of the checkpointed init, beside the images.
inline constexpr const char* kDescriptorsFile = "descriptors.json";

// Entries of it that were pipes get our own descriptor of the same number.
Result<std::vector<engine::InheritedFd>> inherited_pipes(std::string_view json, const std::string& file);

}  // namespace dormouse::shim
