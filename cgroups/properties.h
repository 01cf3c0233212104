// Which files of a cgroup directory are saved, and how one is read and written.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cgroups/layout.h"

namespace dormouse::cgroups {

// Property names by controller, in the order in which they have to be written. Fixed lists, which a
// user may extend or replace (--cgroup-props).
class PropertyTable {
 public:
  PropertyTable();  // the built-in lists

  // Forgets the built-in lists of controllers (--cgroup-props-ignore-default).
  void clear() { by_controller_.clear(); }
  // Merges a specification in YAML:
  //   "cpu":
  //    - "strategy": "merge"        # or "replace"
  //    - "properties": ["cpu.shares"]
  [[nodiscard]] Result<> merge_yaml(const std::string& text);

  // All names to look for in a group of this hierarchy; absent files are nothing unusual.
  std::vector<std::string> names_for(const Hierarchy& hierarchy) const;

 private:
  std::map<std::string, std::vector<std::string>, std::less<>> by_controller_;
};

// The text to save for a property, or nothing if the group does not have it. As the reference engine
// does: one final newline is dropped, membership files (cgroup.procs, tasks) are saved as "", a number
// that means "no limit" as "-1", and memory.oom_control as its first number.
Result<std::optional<std::string>> read_property(int group, const std::string& name);

// Properties of a v2 group that are only saved where they differ from those of a new group: the
// reference engine's list for v2 ends at the generic ones, so they do not occur in its images.
bool is_v2_default(std::string_view name, std::string_view value);

// Whether nothing is lost if this node's kernel does not have a property: the value limits nothing, or the
// property has come out of use.
bool may_be_missing(std::string_view name, std::string_view value);

// When a property has to be written.
enum class Moment : unsigned char {
  kCreation,  // into the new, empty group: impossible or too late once it holds tasks or groups
  kLater,     // once memory is restored, so that no limit slows the restore down
  kLast,      // after everything, since it stops the tasks
  kNever,     // not a value at all: only owner and mode are restored
};
Moment moment_for(std::string_view name);

// Writes a value as saved by read_property(). Nothing is written if the group has it already, so that
// limits that may not be rewritten do no harm.
[[nodiscard]] Result<> write_property(int group, const std::string& name, std::string_view value);

}  // namespace dormouse::cgroups
