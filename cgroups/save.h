// Saves which cgroups the tasks are in and how these groups are set up (cgroup.img).
//
// Tasks whose groups are the same in every hierarchy share a "set". Set 1 is the engine's own; it is
// counted but not written, so that tasks in it simply stay where the engine is on restore. If all of
// them are in it, the image has no record.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "cgroups/layout.h"
#include "cgroups/options.h"
#include "cgroups/properties.h"
#include "kernel/proc/directory.h"

namespace dormouse::pb {
class cgroup_dir_entry;
class cgroup_entry;
class cg_controller_entry;
}  // namespace dormouse::pb
namespace dormouse::images {
class OutputDirectory;
}

namespace dormouse::cgroups {

class Freezer;

struct SaveOptions {
  Mode mode = Mode::kSoft;                     // kIgnore: sets only, no groups and properties
  std::vector<std::string> only_controllers;   // as in /proc/PID/cgroup; empty: all
  std::vector<RootOverride> roots;             // save these trees instead of the tasks' own
  PropertyTable properties;
  // If the tasks were frozen by us: the state that was found is what gets saved.
  const Freezer* freezer = nullptr;
};

class SavedCgroups {
 public:
  static constexpr std::uint32_t kOwnSet = 1;  // goes into inventory.img as root_cg_set

  // `layout` must outlive the result.
  static SavedCgroups begin(Layout& layout, SaveOptions options);

  // What /proc says of a process's leader or of another thread (thread directories work as well).
  // May be asked while the tasks run; a task that is moved afterwards is not noticed. Any thread may ask.
  struct Membership {
    pid_t id = 0;       // the task's, for errors
    std::string space;  // link of its cgroup namespace
    std::string text;   // of its file `cgroup`
  };
  static Result<Membership> membership_of(const proc::ProcDir& task);
  // The set of a task that has this membership. The first one asked about is the root task (`task`): its cgroup
  // namespace is the one that all must have.
  Result<std::uint32_t> set_of(const proc::ProcDir& task, Membership membership);
  Result<std::uint32_t> set_of(const proc::ProcDir& task);

  // The record, or nothing if all tasks are in the engine's own groups. Reads the groups' directories.
  Result<std::optional<pb::cgroup_entry>> collect();
  [[nodiscard]] Result<> write(images::OutputDirectory& out);

 private:
  struct Member {
    const Hierarchy* hierarchy;
    std::string path;
    friend bool operator==(const Member&, const Member&) = default;
  };
  struct Set {
    std::uint32_t id;
    std::vector<Member> members;  // by the hierarchy's name
  };

  SavedCgroups(Layout& layout, SaveOptions options) : layout_(layout), options_(std::move(options)) {}
  bool wanted(const Hierarchy& hierarchy) const;
  std::uint32_t add_set(std::vector<Member> members);
  Result<std::vector<Member>> members_from(const std::string& text) const;
  Result<> learn_namespace(const proc::ProcDir& task, const std::string& outside);
  Result<> add_groups(const Hierarchy& hierarchy, pb::cg_controller_entry& to);
  Result<> add_group(const Hierarchy& hierarchy, const std::vector<std::string>& names, int group,
                     bool top, pb::cg_controller_entry& controller, pb::cgroup_dir_entry& to);
  Result<> add_properties(const Hierarchy& hierarchy, const std::vector<std::string>& names, int group,
                          pb::cg_controller_entry& controller, pb::cgroup_dir_entry& to);

  Layout& layout_;
  SaveOptions options_;
  std::vector<Set> sets_;
  std::map<std::string, std::uint32_t> by_text_;  // contents of /proc/TID/cgroup
  std::string namespace_;                         // link of the root task's cgroup namespace
  std::map<const Hierarchy*, std::string> namespace_roots_;  // where that is not the hierarchy's top
};

}  // namespace dormouse::cgroups
