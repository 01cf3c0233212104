#include "cgroups/plan.h"

#include <algorithm>

#include "base/format.h"
#include "base/text.h"
#include "cgroups/layout.h"
#include "images/schema/cgroups.pb.h"

namespace dormouse::cgroups {

namespace {

bool contains(std::string_view list, std::string_view controller) {
  for (const auto word : split(list, ','))
    if (word == controller) return true;
  return false;
}

template <class Entry>
Perms perms_of(const Entry& entry) {
  return {entry.mode() & 07777, entry.uid(), entry.gid()};
}

Result<std::string> absolute(std::string_view path) { return "/" + TRY(relative_path(path)); }

Result<> add_group(const pb::cgroup_dir_entry& entry, const std::string& parent, PlannedHierarchy& to) {
  const std::string name = TRY(relative_path(entry.dir_name()));
  PlannedGroup group;
  group.path = parent;
  if (!name.empty() && !parent.ends_with('/')) group.path += '/';
  group.path += name;
  if (entry.has_dir_perms()) group.perms = perms_of(entry.dir_perms());
  for (const auto& property : entry.properties()) {
    if (property.name().empty() || property.name().find_first_of(std::string_view("/\0", 2)) != std::string::npos ||
        property.name() == "..")
      return fail(Error::corrupt(format("'{}' is not the name of a cgroup property", property.name())));
    auto& planned = group.properties.emplace_back(property.name(), property.value(), std::nullopt);
    if (property.has_perms()) planned.perms = perms_of(property.perms());
  }
  const std::string path = group.path;
  to.groups.push_back(std::move(group));
  for (const auto& child : entry.children()) TRY(add_group(child, path, to));
  return {};
}

Result<PlannedMember> make_member(const pb::cg_member_entry& entry, const Plan& plan) {
  PlannedMember member;
  const auto found = std::ranges::find_if(plan.hierarchies, [&](const PlannedHierarchy& hierarchy) {
    return std::ranges::all_of(hierarchy.controllers,
                               [&](const auto& name) { return contains(entry.name(), name); });
  });
  if (found == plan.hierarchies.end())
    return fail(Error::corrupt(format("a set names the cgroup hierarchy '{}', which is not described", entry.name())));
  member.hierarchy = static_cast<std::size_t>(found - plan.hierarchies.begin());
  member.path = TRY(absolute(entry.path()));
  if (entry.cgns_prefix() > 0) {
    if (entry.cgns_prefix() > member.path.size() ||
        !is_below(member.path, std::string_view(member.path).substr(0, entry.cgns_prefix())))
      return fail(Error::corrupt(format("cgroup {} has no component boundary at {}, where its namespace should begin",
                                        member.path, entry.cgns_prefix())));
    member.namespace_root = member.path.substr(0, entry.cgns_prefix());
  }
  return member;
}

// The new root for a hierarchy, or null. A root for some controllers goes before one for all; co-mounted
// controllers cannot go to different places.
Result<const std::string*> root_for(const PlannedHierarchy& hierarchy, std::span<const RootOverride> roots) {
  const std::string *specific = nullptr, *general = nullptr;
  for (const auto& root : roots) {
    if (root.every_controller) {
      general = &root.path;
    } else if (std::ranges::any_of(hierarchy.controllers,
                                   [&](const auto& name) { return contains(root.controller, name); })) {
      if (specific && *specific != root.path)
        return fail(Error::bad_option(format("cgroup roots {} and {} are for the same hierarchy", *specific, root.path)));
      specific = &root.path;
    }
  }
  return specific ? specific : general;
}

std::string common_top(const std::string& one, const std::string& other) {
  std::string top = one;
  while (!is_below(other, top)) top.erase(top.rfind('/'));
  return top;  // "" stands for "/"
}

void move_below(std::string& path, std::string_view old_root, std::string_view new_root) {
  if (!is_below(path, old_root)) return;
  while (old_root.ends_with('/')) old_root.remove_suffix(1);
  std::string_view tail = std::string_view(path).substr(old_root.size());
  if (tail == "/") tail = {};
  std::string moved(new_root == "/" ? std::string_view() : new_root);
  moved += tail;
  path = moved.empty() ? "/" : std::move(moved);
}

Result<> move_root(Plan& plan, std::size_t index, const std::string& root) {
  const std::string new_root = TRY(absolute(root));
  std::optional<std::string> old_root;
  bool by_namespace = false;
  for (const auto& set : plan.sets)
    for (const auto& member : set.members) {
      if (member.hierarchy != index) continue;
      if (member.namespace_root && !by_namespace) {
        old_root = *member.namespace_root;
        by_namespace = true;
      } else if (!by_namespace) {
        old_root = old_root ? common_top(*old_root, member.path) : member.path;
      }
    }
  if (!old_root) return {};
  // A checkpoint that was told a root of its own (--cgroup-root) has groups above those of the tasks.
  if (!by_namespace)
    for (const auto& group : plan.hierarchies[index].groups) old_root = common_top(*old_root, group.path);
  for (auto& set : plan.sets)
    for (auto& member : set.members) {
      if (member.hierarchy != index) continue;
      move_below(member.path, *old_root, new_root);
      if (member.namespace_root) move_below(*member.namespace_root, *old_root, new_root);
    }
  for (auto& group : plan.hierarchies[index].groups) move_below(group.path, *old_root, new_root);
  return {};
}

}  // namespace

const PlannedSet* Plan::find(std::uint32_t id) const {
  const auto found = std::ranges::find(sets, id, &PlannedSet::id);
  return found == sets.end() ? nullptr : &*found;
}

Result<Plan> make_plan(const pb::cgroup_entry& record, std::span<const RootOverride> roots) {
  Plan plan;
  for (const auto& entry : record.controllers()) {
    auto& hierarchy = plan.hierarchies.emplace_back();
    if (entry.cnames().empty()) return fail(Error::corrupt("a cgroup hierarchy without a name"));
    hierarchy.controllers.assign(entry.cnames().begin(), entry.cnames().end());
    hierarchy.threaded = entry.is_threaded();
    for (const auto& group : entry.dirs()) TRY(add_group(group, "/", hierarchy));
  }
  for (const auto& entry : record.sets()) {
    if (plan.find(entry.id())) return fail(Error::corrupt(format("cgroup set {} occurs twice", entry.id())));
    PlannedSet set;
    set.id = entry.id();
    for (const auto& member : entry.ctls()) set.members.push_back(TRY(make_member(member, plan)));
    plan.sets.push_back(std::move(set));
  }
  for (std::size_t i = 0; i < plan.hierarchies.size(); ++i)
    if (const std::string* const root = TRY(root_for(plan.hierarchies[i], roots))) TRY(move_root(plan, i, *root));
  return plan;
}

}  // namespace dormouse::cgroups
