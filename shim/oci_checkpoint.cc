#include "shim/oci_checkpoint.h"

#include <sys/stat.h>

#include "kernel/file.h"
#include "kernel/proc/directory.h"
#include "oci/json.h"
#include "shim/oci_cgroup.h"
#include "shim/oci_externals.h"
#include "shim/oci_lifecycle.h"
#include "shim/oci_rootfs.h"
#include "shim/oci_store.h"
#include "shim/operations.h"

namespace dormouse::shim {
namespace {

Result<Container> find_running(const OciCheckpoint& request) {
  Container container = TRY(find_container(request.roots, request.id));
  const std::string status = container.status();
  if (status == "running" || status == "paused") return container;
  return fail(Error::conflict(format("is {}", status), ESRCH)
                  .object("container " + request.id)
                  .remedy("only a running or paused container can be checkpointed"));
}

// What stood behind 0, 1 and 2 when init began. A runtime that does not say leaves the present state.
std::vector<std::string> standard_descriptors(const Container& container, const proc::ProcDir& init) {
  if (!container.external_descriptors.empty()) return container.external_descriptors;
  std::vector<std::string> links;
  for (const char* name : {"fd/0", "fd/1", "fd/2"}) links.push_back(init.read_link(name).value_or(""));
  return links;
}

std::string freezer_of(const CgroupPaths& paths, std::span<const CgroupMount> mounts) {
  const auto found = paths.find(only_unified(mounts) ? "" : "freezer");
  return found == paths.end() ? "" : found->second;
}

Result<> describe_container(const Container& container, const proc::ProcDir& init, Settings& settings) {
  const auto cgroup_mounts = TRY(discover_cgroup_mounts());
  const Fd rootfs = TRY_OR(sys::openat(AT_FDCWD, container.config.rootfs, O_PATH | O_DIRECTORY),
                           std::move(e).object("root file system " + container.config.rootfs));
  const NodeView node{cgroup_mounts, [&](const std::string& path) { return resolve_in_root(rootfs.get(), path); }};
  const auto is_file = [&](const std::string& path) {
    const auto st = sys::fstatat(init.fd(), "root" + path);
    return st && !S_ISDIR(st->st_mode);
  };
  const auto inode_of = [](const std::string& path) -> Result<std::uint64_t> {
    return TRY(sys::fstatat(AT_FDCWD, path)).st_ino;
  };
  engine::CommonOptions& common = settings.common;
  common.root = container.config.rootfs;
  for (auto& mount : dumped_mounts(container.config, node, is_file)) common.external_mounts.push_back(std::move(mount));
  for (auto all = TRY(dumped_namespaces(container.config, inode_of)); auto& name : all) common.externals.push_back(std::move(name));
  settings.dump.pid = container.init.pid;
  settings.dump.freeze_cgroup = freezer_of(container.cgroup_paths, cgroup_mounts);
  return {};
}

Result<> write_descriptors(const std::vector<std::string>& descriptors, const std::string& image_path) {
  return write_atomically(format("{}/{}", image_path, kDescriptorsFile), oci::json_array(descriptors), 0600);
}

}  // namespace

Result<> checkpoint_container(const EngineApi& engine, const OciCheckpoint& request) {
  const Container container = TRY(find_running(request));
  const auto init = TRY(proc::ProcDir::open(container.init.pid));
  TRY(make_directories(request.image_path, 0700));
  if (!request.work_path.empty()) TRY(make_directories(request.work_path, 0700));
  Settings settings = TRY(settings_for(request, container.config, "dump.log"));
  settings.dump.after = request.leave_running ? engine::AfterDump::kResume : engine::AfterDump::kKill;
  TRY(describe_container(container, init, settings));

  Workplace place;
  if (auto errors = place.open(settings, true); !errors.empty()) return fail(std::move(errors.front()));
  TRY(write_descriptors(standard_descriptors(container, init), request.image_path));
  const auto outcome = run_checkpoint(engine, settings, place, {});
  if (!outcome) return fail(summary_of(outcome.error(), place, settings));
  if (!request.leave_running && container.ours) TRY(delete_container(request.roots, request.id, {.force = true}));
  return {};
}

}  // namespace dormouse::shim
