#include "cgroups/layout.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "base/format.h"
#include "base/text.h"
#include "kernel/file.h"
#include "kernel/mount_api.h"
#include "kernel/proc/directory.h"

namespace dormouse::cgroups {

bool Hierarchy::has(std::string_view controller) const {
  return std::ranges::find(controllers, controller) != controllers.end();
}

namespace {

Hierarchy make_hierarchy(std::string_view name, std::string own_path) {
  Hierarchy hierarchy;
  hierarchy.name = name;
  for (const auto controller : split(name, ',')) hierarchy.controllers.emplace_back(controller);
  hierarchy.own_path = std::move(own_path);
  return hierarchy;
}

// Whether a mount shows this hierarchy. The super block's options name a v1 hierarchy's controllers.
bool shows(const proc::MountInfo& mount, const Hierarchy& hierarchy) {
  if (hierarchy.unified()) return mount.type == "cgroup2";
  return mount.type == "cgroup" && std::ranges::all_of(hierarchy.controllers, [&](const auto& name) {
           return proc::has_option(mount.super_options, name);
         });
}

// A mount of the hierarchy that is attached nowhere: for nodes (or mount namespaces) where it is not
// mounted. Mounting a named v1 hierarchy that does not exist creates it.
Result<Fd> mount_privately(const Hierarchy& hierarchy) {
  const Fd context = TRY(sys::fsopen(hierarchy.unified() ? "cgroup2" : "cgroup"));
  if (hierarchy.named()) {
    TRY(sys::fsconfig_flag(context.get(), "none"));
    TRY(sys::fsconfig_string(context.get(), "name", hierarchy.name.substr(5)));
  } else if (!hierarchy.unified()) {
    for (const auto& controller : hierarchy.controllers)
      TRY(sys::fsconfig_flag(context.get(), controller));
  }
  TRY(sys::fsconfig_create(context.get()));
  return sys::fsmount(context.get());
}

std::string spoken_name(const Hierarchy& hierarchy) {
  return hierarchy.unified() ? std::string("cgroup v2 hierarchy")
                             : format("cgroup hierarchy '{}'", hierarchy.name);
}

}  // namespace

Result<Layout> Layout::discover(std::string yard) {
  const auto self = TRY(proc::ProcDir::self());
  const std::string cgroup = TRY(self.read("cgroup"));
  const std::string mounts = yard.empty() ? TRY(self.read("mountinfo")) : std::string();
  Layout layout = TRY(parse(cgroup, mounts));
  layout.yard_ = std::move(yard);
  return layout;
}

Result<Layout> Layout::parse(std::string_view cgroup, std::string_view mountinfo) {
  Layout layout;
  for (auto all = TRY(proc::parse_cgroup(cgroup)); auto& line : all)
    layout.hierarchies_.push_back(make_hierarchy(line.controllers, std::move(line.path)));
  for (auto all = TRY(proc::parse_mountinfo(mountinfo)); auto& mount : all)
    if (mount.type == "cgroup" || mount.type == "cgroup2") layout.mounts_.push_back(std::move(mount));
  return layout;
}

const Hierarchy* Layout::find(std::string_view controller) const {
  const auto found =
      std::ranges::find_if(hierarchies_, [&](const auto& h) { return h.has(controller); });
  return found == hierarchies_.end() ? nullptr : &*found;
}

Result<const Hierarchy*> Layout::find_or_create(std::string_view controller) {
  if (const Hierarchy* const found = find(controller)) return found;
  Hierarchy hierarchy = make_hierarchy(controller, "/");
  if (!hierarchy.named())
    return fail(Error::unsupported("this node has no such cgroup controller").object(
        spoken_name(hierarchy)));
  hierarchy.root_ = TRY_OR(mount_privately(hierarchy), std::move(e).object(spoken_name(hierarchy)));
  hierarchies_.push_back(std::move(hierarchy));
  return &hierarchies_.back();
}

// Mounts that begin elsewhere than at "/" (a container's own view, bind mounts) cannot reach every
// group. A mount may also be hidden below another one: the device tells.
Result<Fd> Layout::open_root(const Hierarchy& hierarchy) const {
  if (!yard_.empty()) {
    const std::string name = hierarchy.unified() ? "unified"
                             : hierarchy.named() ? hierarchy.name.substr(5)
                                                 : hierarchy.name;
    return sys::openat(AT_FDCWD, yard_ + "/" + name, O_PATH | O_DIRECTORY);
  }
  for (const auto& mount : mounts_) {
    if (mount.root != "/" || !shows(mount, hierarchy)) continue;
    auto fd = sys::openat(AT_FDCWD, mount.mount_point, O_PATH | O_DIRECTORY);
    if (!fd) continue;
    const auto st = sys::fstat(fd->get());
    if (st && major(st->st_dev) == mount.device_major && minor(st->st_dev) == mount.device_minor)
      return fd;
  }
  return mount_privately(hierarchy);
}

Result<int> Layout::root(const Hierarchy& hierarchy) {
  if (!hierarchy.root_)
    hierarchy.root_ = TRY_OR(open_root(hierarchy), std::move(e).object(spoken_name(hierarchy)));
  return hierarchy.root_.get();
}

Result<Fd> Layout::open(const Hierarchy& hierarchy, std::string_view path) {
  const int root_fd = TRY(root(hierarchy));
  std::string relative = TRY_OR(relative_path(path), std::move(e).object(spoken_name(hierarchy)));
  if (relative.empty()) relative = ".";
  return TRY_OR(sys::openat(root_fd, relative, O_RDONLY | O_DIRECTORY),
                std::move(e).object(format("cgroup {} of {}", path, spoken_name(hierarchy))));
}

Result<std::string> relative_path(std::string_view path) {
  std::string relative;
  for (const auto component : split(path, '/')) {
    if (component.empty() || component == ".") continue;
    if (component == ".." || component.find('\0') != std::string_view::npos)
      return fail(Error::corrupt(format("cgroup path '{}' leads out of its hierarchy", path)));
    if (!relative.empty()) relative += '/';
    relative += component;
  }
  return relative;
}

bool is_below(std::string_view path, std::string_view base) {
  while (base.ends_with('/')) base.remove_suffix(1);
  return path.starts_with(base) && (path.size() == base.size() || path[base.size()] == '/');
}

}  // namespace dormouse::cgroups
