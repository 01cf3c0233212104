#include "shim/oci_cgroup.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "base/text.h"
#include "kernel/file.h"
#include "kernel/proc/directory.h"
#include "kernel/process.h"
#include "kernel/wait.h"
#include "oci/cgroup_settings.h"
#include "shim/oci_device_filter.h"

namespace dormouse::shim {
namespace {

bool shows(const proc::MountInfo& mount, const std::vector<std::string>& controllers) {
  if (controllers.front().empty()) return mount.type == "cgroup2";
  return mount.type == "cgroup" && std::ranges::all_of(controllers, [&](const std::string& controller) {
           return proc::has_option(mount.super_options, controller);
         });
}

// A mount of the whole hierarchy is better than one of a part.
const proc::MountInfo* best_mount(const std::vector<proc::MountInfo>& mounts, const std::vector<std::string>& controllers) {
  const proc::MountInfo* best = nullptr;
  for (const auto& mount : mounts)
    if (shows(mount, controllers) && (!best || (best->root != "/" && mount.root == "/"))) best = &mount;
  return best;
}

std::string parent_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

// An empty list in a cpuset of v1 keeps every task out; a new one is empty.
Result<> inherit_cpuset(const std::string& directory) {
  for (const char* file : {"cpuset.cpus", "cpuset.mems"}) {
    const std::string path = format("{}/{}", directory, file);
    if (!trim(TRY(sys::read_file(AT_FDCWD, path))).empty()) continue;
    const std::string value = TRY(sys::read_file(AT_FDCWD, format("{}/{}", parent_of(directory), file)));
    TRY(sys::write_file(AT_FDCWD, path, trim(value)));
  }
  return {};
}

// v2: a controller works in a cgroup only if the parent hands it down. Best effort: whether it is
// there turns out when a limit is set.
void hand_down_controllers(const std::string& parent) {
  const auto available = sys::read_file(AT_FDCWD, parent + "/cgroup.controllers");
  if (!available) return;
  for (const auto controller : split_blanks(trim(*available)))
    (void)sys::write_file(AT_FDCWD, parent + "/cgroup.subtree_control", format("+{}", controller));
}

void collect_directories(const std::string& directory, std::vector<std::string>& into) {
  const auto entries = sys::list_directory(AT_FDCWD, directory);
  if (!entries) return;
  into.push_back(directory);
  for (const auto& entry : *entries)
    if (entry.type == DT_DIR) collect_directories(directory + "/" + entry.name, into);
}

// Parents first.
std::vector<std::string> directories_below(const CgroupPaths& paths) {
  std::vector<std::string> all;
  std::set<std::string> seen;
  for (const auto& [controller, path] : paths)
    if (seen.insert(path).second) collect_directories(path, all);
  return all;
}

Result<> write_limit(const std::string& directory, const oci::CgroupWrite& write) {
  const std::string path = format("{}/{}", directory, write.file);
  auto written = sys::write_file(AT_FDCWD, path, write.value);
  if (written || (write.may_lack && written.error().is_kernel(ENOENT))) return {};
  return fail(std::move(written).error().object(format("cgroup limit {} = {}", write.file, write.value))
                  .remedy("see linux.resources in config.json"));
}

}  // namespace

std::string CgroupMount::directory(std::string_view cgroup) const {
  if (root == "/") return cgroup == "/" ? mount_point : mount_point + std::string(cgroup);
  if (!cgroup.starts_with(root)) return mount_point;
  return mount_point + std::string(cgroup.substr(root.size()));
}

Result<std::vector<CgroupMount>> parse_cgroup_mounts(std::string_view cgroup, std::string_view mountinfo) {
  const auto mounts = TRY(proc::parse_mountinfo(mountinfo));
  std::vector<CgroupMount> result;
  for (const auto all = TRY(proc::parse_cgroup(cgroup)); const auto& membership : all) {
    CgroupMount one;
    for (const auto controller : split(membership.controllers, ',')) one.controllers.emplace_back(controller);
    const auto* mount = best_mount(mounts, one.controllers);
    if (!mount) continue;
    one.mount_point = mount->mount_point;
    one.root = mount->root;
    one.own_path = membership.path;
    result.push_back(std::move(one));
  }
  return result;
}

Result<std::vector<CgroupMount>> discover_cgroup_mounts() {
  const auto self = TRY(proc::ProcDir::self());
  const std::string cgroup = TRY(self.read("cgroup"));
  return parse_cgroup_mounts(cgroup, TRY(self.read("mountinfo")));
}

bool only_unified(std::span<const CgroupMount> mounts) {
  return std::ranges::all_of(mounts, [](const CgroupMount& mount) {
    return mount.unified() || mount.controllers.front().starts_with("name=");
  });
}

Result<ContainerCgroups> ContainerCgroups::make(std::span<const CgroupMount> mounts, const oci::Config& config,
                                                const std::string& id) {
  ContainerCgroups cgroups;
  TRY(cgroups.make_directories(mounts, config, id));
  TRY(cgroups.set_limits(mounts, config));
  return cgroups;
}

ContainerCgroups::~ContainerCgroups() {
  // Those inside of others were made after them.
  for (auto directory = made_.rbegin(); directory != made_.rend(); ++directory)
    (void)sys::unlinkat(AT_FDCWD, *directory, AT_REMOVEDIR);
}

Result<> ContainerCgroups::make_directories(std::span<const CgroupMount> mounts, const oci::Config& config,
                                            const std::string& id) {
  const bool unified = only_unified(mounts);
  for (const CgroupMount& mount : mounts) {
    // A v2 group with processes hands no controllers down, so ours cannot be the parent there.
    const std::string own = unified && mount.unified() ? parent_of(mount.own_path) : mount.own_path;
    const std::string cgroup = oci::container_cgroup(config.cgroups_path, id, own);
    const std::string directory = mount.directory(cgroup);
    if (directory == mount.mount_point)
      return fail(Error::bad_option("is the hierarchy's own root")
                      .object(format("cgroup {} of container {}", cgroup, id))
                      .remedy("correct linux.cgroupsPath in config.json"));
    TRY_OR(make_directory(mount, directory), std::move(e).object("cgroup " + directory).owner("container " + id));
    for (const auto& controller : mount.controllers) {
      paths_[controller] = directory;
      roots_.push_back({.controller = controller, .path = cgroup});
    }
  }
  return {};
}

Result<> ContainerCgroups::make_directory(const CgroupMount& mount, const std::string& directory) {
  std::string so_far = mount.mount_point;
  for (const auto part : split(std::string_view(directory).substr(so_far.size()), '/')) {
    if (part.empty()) continue;
    if (mount.unified()) hand_down_controllers(so_far);
    so_far += format("/{}", part);
    const auto made = sys::mkdirat(AT_FDCWD, so_far, 0755);
    if (!made && !made.error().is_kernel(EEXIST)) return fail(made.error());
    if (made) made_.push_back(so_far);
    if (mount.controllers.front() == "cpuset") TRY(inherit_cpuset(so_far));
  }
  const auto living = TRY(processes_in({{"", directory}}));
  if (living.empty()) return {};
  return fail(Error::conflict(format("process {} lives there already", living.front()), EEXIST)
                  .remedy("delete the container that uses it, or change linux.cgroupsPath"));
}

Result<> ContainerCgroups::set_limits(std::span<const CgroupMount> mounts, const oci::Config& config) {
  const bool unified = only_unified(mounts);
  const auto writes = unified ? oci::cgroup_writes_v2(config.resources) : oci::cgroup_writes_v1(config.resources);
  for (const auto& write : writes) {
    const auto directory = paths_.find(write.controller);
    if (directory != paths_.end())
      TRY(write_limit(directory->second, write));
    else if (!write.may_lack)
      return fail(Error::unsupported(format("this node has no cgroup controller '{}'", write.controller))
                      .object(format("cgroup limit {} = {}", write.file, write.value))
                      .remedy("mount the controller, or leave the limit out of linux.resources"));
  }
  if (const auto v2 = paths_.find(""); unified && v2 != paths_.end())
    TRY_OR(attach_device_filter(v2->second, oci::effective_device_rules(config.resources)),
           std::move(e).object("device rules of cgroup " + v2->second).remedy("CAP_BPF and CAP_NET_ADMIN are needed"));
  return {};
}

Result<> ContainerCgroups::enter() const {
  for (const auto& [controller, directory] : paths_)
    TRY_OR(sys::write_file(AT_FDCWD, directory + "/cgroup.procs", "0"),
           std::move(e).during("entering the container's cgroup").object("cgroup " + directory));
  return {};
}

bool is_frozen(const CgroupPaths& paths) {
  if (const auto v1 = paths.find("freezer"); v1 != paths.end()) {
    const auto state = sys::read_file(AT_FDCWD, v1->second + "/freezer.state");
    return state && trim(*state) != "THAWED";
  }
  const auto v2 = paths.find("");
  if (v2 == paths.end()) return false;
  const auto freeze = sys::read_file(AT_FDCWD, v2->second + "/cgroup.freeze");
  return freeze && trim(*freeze) == "1";
}

Result<> thaw(const CgroupPaths& paths) {
  if (!is_frozen(paths)) return {};
  if (const auto v1 = paths.find("freezer"); v1 != paths.end())
    return sys::write_file(AT_FDCWD, v1->second + "/freezer.state", "THAWED");
  return sys::write_file(AT_FDCWD, paths.at("") + "/cgroup.freeze", "0");
}

Result<std::vector<pid_t>> processes_in(const CgroupPaths& paths) {
  std::set<pid_t> all;
  for (const auto& directory : directories_below(paths)) {
    const auto text = sys::read_file(AT_FDCWD, directory + "/cgroup.procs");
    // Gone meanwhile, or a threaded group of v2, whose processes are listed further up.
    if (!text && (text.error().is_kernel(ENOENT) || text.error().is_kernel(ENODEV) || text.error().is_kernel(EOPNOTSUPP)))
      continue;
    if (!text) return fail(text.error());
    for (const auto line : split(*text, '\n'))
      if (const auto pid = parse_number<pid_t>(line); pid && *pid > 0) all.insert(*pid);
  }
  return std::vector(all.begin(), all.end());
}

Result<> kill_all_in(const CgroupPaths& paths, std::chrono::milliseconds deadline) {
  const auto until = sys::Deadline::in(deadline);
  for (;;) {
    std::vector<Fd> dying;
    for (const auto all = TRY(processes_in(paths)); const pid_t pid : all)
      if (auto pidfd = sys::pidfd_open(pid)) {
        (void)sys::pidfd_send_signal(pidfd->get(), SIGKILL);
        dying.push_back(std::move(*pidfd));
      }
    if (dying.empty()) return {};
    TRY(thaw(paths));
    for (const Fd& pidfd : dying)
      if (!TRY(sys::wait_for(pidfd.get(), POLLIN, until)) || until.remaining_ms() == 0)
        return fail(Error::conflict("processes of it do not die", EBUSY).object("cgroup " + paths.begin()->second));
  }
}

Result<> remove_cgroups(const CgroupPaths& paths) {
  auto directories = directories_below(paths);
  for (auto directory = directories.rbegin(); directory != directories.rend(); ++directory) {
    auto removed = sys::unlinkat(AT_FDCWD, *directory, AT_REMOVEDIR);
    if (!removed && !removed.error().is_kernel(ENOENT))
      return fail(std::move(removed).error().object("cgroup " + *directory).remedy("a process may still live in it"));
  }
  return {};
}

}  // namespace dormouse::shim
