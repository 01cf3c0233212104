// What an image asks for, checked and with the roots that the caller chose. A pure function.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "cgroups/options.h"

namespace dormouse::pb {
class cgroup_entry;
}

namespace dormouse::cgroups {

struct Perms {
  std::uint32_t mode = 0, uid = 0, gid = 0;
  friend bool operator==(const Perms&, const Perms&) = default;
};

struct PlannedProperty {
  std::string name, value;
  std::optional<Perms> perms;
};

struct PlannedGroup {
  std::string path;  // absolute in its hierarchy
  std::optional<Perms> perms;
  std::vector<PlannedProperty> properties;  // in the order in which they are written
};

struct PlannedHierarchy {
  std::vector<std::string> controllers;  // as on the node of the dump
  bool threaded = false;
  std::vector<PlannedGroup> groups;      // parents before children
};

struct PlannedMember {
  std::size_t hierarchy = 0;  // index in Plan::hierarchies
  std::string path;
  std::optional<std::string> namespace_root;  // where the task's cgroup namespace begins
};

struct PlannedSet {
  std::uint32_t id = 0;
  std::vector<PlannedMember> members;
};

struct Plan {
  std::vector<PlannedHierarchy> hierarchies;
  std::vector<PlannedSet> sets;

  const PlannedSet* find(std::uint32_t id) const;
};

// With a new root for a hierarchy, the top that the tasks have in common there (their cgroup namespace's
// beginning, if they have one) becomes that root, and what is below it stays below it.
Result<Plan> make_plan(const pb::cgroup_entry& record, std::span<const RootOverride> roots);

}  // namespace dormouse::cgroups
