// The cgroup hierarchies of this node as the engine sees them, v1 and v2 alike.
//
// A node has one v2 hierarchy (which may hold nothing), any number of v1 hierarchies (one or several
// co-mounted controllers each) and v1 hierarchies that only have a name. Paths are those of
// /proc/PID/cgroup: absolute, relative to the engine's own cgroup namespace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "kernel/proc/mountinfo.h"

namespace dormouse::cgroups {

struct Hierarchy {
  std::string name;                      // as /proc/PID/cgroup prints it: "cpu,cpuacct", "name=systemd", ""
  std::vector<std::string> controllers;  // the same, split; {""} for v2
  std::string own_path;                  // where the engine is

  bool unified() const { return name.empty(); }
  bool named() const { return name.starts_with("name="); }
  bool has(std::string_view controller) const;

 private:
  friend class Layout;
  mutable Fd root_;  // the directory of the group "/"; opened when first needed
};

class Layout {
 public:
  // From the engine's own /proc files. With a `yard`, a directory in which somebody has mounted every
  // hierarchy ("cpu,cpuacct", "systemd" for a name, "unified" for v2), no other mount is looked at.
  static Result<Layout> discover(std::string yard = {});
  // From text in the form of /proc/self/cgroup and /proc/self/mountinfo.
  static Result<Layout> parse(std::string_view cgroup, std::string_view mountinfo);

  // In the order of /proc/self/cgroup. References stay good while the layout lives.
  const std::deque<Hierarchy>& hierarchies() const { return hierarchies_; }
  // By one controller ("cpu", "name=systemd", "" for v2); null if this node has none.
  const Hierarchy* find(std::string_view controller) const;
  // As find(), but makes a named v1 hierarchy that nobody has mounted yet.
  Result<const Hierarchy*> find_or_create(std::string_view controller);

  // The directory that holds the cgroup "/" of the hierarchy; the layout's. Uses a mount that is there,
  // or else a private one that is attached nowhere and goes with this object.
  Result<int> root(const Hierarchy& hierarchy);
  // The directory of one cgroup, for reading and for *at calls.
  Result<Fd> open(const Hierarchy& hierarchy, std::string_view path);

 private:
  Layout() = default;
  Result<Fd> open_root(const Hierarchy& hierarchy) const;

  std::string yard_;
  std::deque<Hierarchy> hierarchies_;
  std::vector<proc::MountInfo> mounts_;  // of type cgroup and cgroup2 only
};

// Checks that a path from an image is absolute and has no component that leads elsewhere; gives it back
// relative ("" for "/"), ready for *at calls below a hierarchy's root.
Result<std::string> relative_path(std::string_view path);
// Whether `path` is `base` or lies below it, by components.
bool is_below(std::string_view path, std::string_view base);

}  // namespace dormouse::cgroups
