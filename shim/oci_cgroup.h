// The cgroups of a container: made, limited and entered before a restore, emptied and removed after
// the container's end. What the engine does with the cgroups that the image knows is its own business
// (and the room cgroups/); this is the runtime's part.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/options.h"
#include "oci/config.h"

namespace dormouse::shim {

// A hierarchy with a place in our file system.
struct CgroupMount {
  std::vector<std::string> controllers;  // {"cpu", "cpuacct"}, {"name=systemd"}; {""} for v2
  std::string mount_point;
  std::string root;      // the cgroup that the mount shows at its top, "/" but in containers
  std::string own_path;  // where we are, as /proc/self/cgroup has it

  bool unified() const { return controllers.front().empty(); }
  // The directory of a cgroup; the root's where it lies outside of what the mount shows.
  std::string directory(std::string_view cgroup) const;
};

// From text in the form of /proc/self/cgroup and /proc/self/mountinfo; hierarchies that are mounted
// nowhere are left out.
Result<std::vector<CgroupMount>> parse_cgroup_mounts(std::string_view cgroup, std::string_view mountinfo);
Result<std::vector<CgroupMount>> discover_cgroup_mounts();
// No v1 hierarchy with a controller.
bool only_unified(std::span<const CgroupMount> mounts);

// Directories by controller, as they are kept in the container's state.
using CgroupPaths = std::map<std::string, std::string>;

class ContainerCgroups {
 public:
  // Makes the cgroups of the container in every hierarchy and sets its limits. A cgroup that is there
  // is used if nobody lives in it. What was made is removed again by the destructor, unless keep().
  static Result<ContainerCgroups> make(std::span<const CgroupMount> mounts, const oci::Config& config,
                                       const std::string& id);
  ContainerCgroups(ContainerCgroups&& other) noexcept = default;
  ContainerCgroups& operator=(ContainerCgroups&&) = delete;
  ~ContainerCgroups();

  const CgroupPaths& paths() const { return paths_; }
  // By controller, as the engine wants them: where the image's cgroups go to.
  const std::vector<engine::CgroupRoot>& roots() const { return roots_; }
  // Moves the calling process, with all its threads, into them.
  [[nodiscard]] Result<> enter() const;
  void keep() { made_.clear(); }

 private:
  ContainerCgroups() = default;
  Result<> make_directories(std::span<const CgroupMount> mounts, const oci::Config& config, const std::string& id);
  Result<> make_directory(const CgroupMount& mount, const std::string& directory);
  Result<> set_limits(std::span<const CgroupMount> mounts, const oci::Config& config);

  CgroupPaths paths_;
  std::vector<engine::CgroupRoot> roots_;
  std::vector<std::string> made_;  // in the order of making
};

// Whether the freezer holds the container.
bool is_frozen(const CgroupPaths& paths);
[[nodiscard]] Result<> thaw(const CgroupPaths& paths);
// Every process in the container's cgroups and below.
Result<std::vector<pid_t>> processes_in(const CgroupPaths& paths);
// Kills and waits until nobody is left; a frozen container is thawed for that.
[[nodiscard]] Result<> kill_all_in(const CgroupPaths& paths, std::chrono::milliseconds deadline);
// Removes the cgroups with those below them. One that is gone already is fine.
[[nodiscard]] Result<> remove_cgroups(const CgroupPaths& paths);

}  // namespace dormouse::shim
