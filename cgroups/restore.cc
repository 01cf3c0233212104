#include "cgroups/restore.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ranges>

#include "base/format.h"
#include "base/text.h"
#include "cgroups/properties.h"
#include "images/schema/cgroups.pb.h"
#include "kernel/file.h"

namespace dormouse::cgroups {

namespace {

std::string spoken(const Hierarchy& hierarchy, std::string_view relative) {
  return hierarchy.unified() ? format("cgroup /{}", relative)
                             : format("cgroup /{} of hierarchy '{}'", relative, hierarchy.name);
}

// Owner and mode of a directory or of a file in it ("." for the directory itself), where they differ.
Result<> set_perms(int directory, const std::string& name, const Perms& perms) {
  const auto st = TRY(sys::fstatat(directory, name));
  if (st.st_uid != perms.uid || st.st_gid != perms.gid)
    TRY(sys::fchownat(directory, name, perms.uid, perms.gid));
  if ((st.st_mode & 07777) != perms.mode) TRY(sys::fchmodat(directory, name, perms.mode));
  return {};
}

// A new v1 cpuset has neither processors nor memory nodes, and no task can enter it.
Result<> inherit_cpuset(int parent, int group) {
  for (const char* const name : {"cpuset.cpus", "cpuset.mems"}) {
    const auto now = sys::read_file(group, name);
    if (!now || !trim(*now).empty()) continue;
    const std::string above = TRY(sys::read_file(parent, name));
    TRY(sys::write_file(group, name, trim(above)));
  }
  return {};
}

// Whether a property of a saved hierarchy is one of this local one. "cpu.shares" is the controller cpu's;
// names without a known controller are of every group.
bool belongs(const PlannedProperty& property, const PlannedHierarchy& saved, const Hierarchy& local) {
  const std::string_view controller = std::string_view(property.name).substr(0, property.name.find('.'));
  const bool specific = std::ranges::find(saved.controllers, controller) != saved.controllers.end();
  return !specific || local.has(controller);
}

}  // namespace

CgroupRestore::CgroupRestore(CgroupRestore&& other) noexcept
    : layout_(other.layout_),
      options_(std::move(other.options_)),
      plan_(std::move(other.plan_)),
      local_(std::move(other.local_)),
      groups_(std::move(other.groups_)),
      made_(std::move(other.made_)),
      old_values_(std::move(other.old_values_)),
      armed_(std::exchange(other.armed_, false)) {}

CgroupRestore::~CgroupRestore() {
  if (armed_) (void)rollback();
}

Result<CgroupRestore> CgroupRestore::make(Layout& layout, const pb::cgroup_entry* record,
                                          RestoreOptions options) {
  CgroupRestore restore(layout, std::move(options));
  if (!record || restore.options_.mode == Mode::kIgnore) return restore;
  restore.plan_ =
      TRY_OR(make_plan(*record, restore.options_.roots), std::move(e).object("cgroup.img"));
  TRY(restore.resolve());
  return restore;
}

// Finds this node's hierarchies for the image's.
Result<> CgroupRestore::resolve() {
  for (std::size_t i = 0; i < plan_.hierarchies.size(); ++i) {
    const auto& saved = plan_.hierarchies[i];
    auto& local = local_.emplace_back();
    // Nothing is asked of a hierarchy in which all tasks are at the top.
    const bool used = std::ranges::any_of(plan_.sets, [&](const PlannedSet& set) {
      return std::ranges::any_of(set.members, [&](const PlannedMember& member) {
        return member.hierarchy == i && member.path != "/";
      });
    });
    for (const auto& controller : saved.controllers) {
      if (!used && !layout_.find(controller)) continue;
      const Hierarchy* const found = TRY_OR(
          layout_.find_or_create(controller),
          std::move(e).remedy("mount it, or restore without cgroups: --manage-cgroups=ignore"));
      if (std::ranges::find(local, found) == local.end()) local.push_back(found);
    }
    for (const Hierarchy* const hierarchy : local)
      for (const auto& planned : saved.groups) {
        Group group{.hierarchy = hierarchy,
                    .saved = &saved,
                    .planned = &planned,
                    .relative = TRY(relative_path(planned.path))};
        if (!group.relative.empty()) groups_.push_back(std::move(group));
      }
  }
  return {};
}

Result<> CgroupRestore::prepare() {
  if (idle()) return {};
  for (auto& group : groups_)
    TRY_OR(prepare_group(group), std::move(e).object(spoken(*group.hierarchy, group.relative)));
  return {};
}

Result<> CgroupRestore::prepare_group(Group& group) {
  const Mode mode = options_.mode;
  const int root = TRY(layout_.root(*group.hierarchy));
  const auto there = sys::fstatat(root, group.relative);
  if (there) {
    if (mode == Mode::kStrict)
      return fail(Error::conflict("it exists already", EEXIST)
                      .remedy("remove it, or choose --manage-cgroups=soft"));
    group.with_properties = mode == Mode::kProps || mode == Mode::kFull;
  } else if (!there.error().is_kernel(ENOENT)) {
    return fail(there.error());
  } else if (mode == Mode::kNone || mode == Mode::kProps) {
    return fail(Error::conflict("it does not exist", ENOENT)
                    .remedy("make it, or choose --manage-cgroups=soft"));
  } else {
    TRY(make_group(group));
    group.made = group.with_properties = true;
  }
  if (mode != Mode::kNone && group.planned->perms)
    TRY(set_perms(root, group.relative, *group.planned->perms));
  if (group.made) TRY(write_properties(group, Moment::kCreation));
  return {};
}

Result<> CgroupRestore::make_group(const Group& group) {
  const int root = TRY(layout_.root(*group.hierarchy));
  Fd parent = TRY(sys::openat(root, ".", O_RDONLY | O_DIRECTORY));
  std::string so_far;
  for (const auto component : split(group.relative, '/')) {
    const std::string name(component);
    if (!so_far.empty()) so_far += '/';
    so_far += name;
    const auto made = sys::mkdirat(parent.get(), name, 0755);
    if (!made && !made.error().is_kernel(EEXIST)) return fail(made.error());
    Fd directory = TRY(sys::openat(parent.get(), name, O_RDONLY | O_DIRECTORY));
    if (made) {
      made_.push_back({group.hierarchy, so_far});
      if (group.hierarchy->has("cpuset")) TRY(inherit_cpuset(parent.get(), directory.get()));
    }
    parent = std::move(directory);
  }
  return {};
}

Result<> CgroupRestore::apply_properties() { return write_all_at(Moment::kLater); }
Result<> CgroupRestore::apply_freezer() { return write_all_at(Moment::kLast); }

Result<> CgroupRestore::write_all_at(Moment moment) {
  if (idle()) return {};
  for (const auto& group : groups_)
    if (group.with_properties)
      TRY_OR(write_properties(group, moment),
             std::move(e).object(spoken(*group.hierarchy, group.relative)));
  return {};
}

Result<> CgroupRestore::write_properties(const Group& group, Moment moment) {
  const Fd directory = TRY(layout_.open(*group.hierarchy, "/" + group.relative));
  std::vector<const PlannedProperty*> again;
  for (const auto& property : group.planned->properties) {
    const Moment when = moment_for(property.name);
    const bool now = when == moment || (when == Moment::kNever && moment == Moment::kLater);
    if (!now || !belongs(property, *group.saved, *group.hierarchy)) continue;
    // Some limits bound each other (memory and memory with swap, a period and its budget), so that only one
    // order of writing works, and which one depends on the values that are there.
    if (!write_one(group, directory.get(), property)) again.push_back(&property);
  }
  for (const auto* const property : again)
    TRY_OR(write_one(group, directory.get(), *property),
           std::move(e).during(format("setting {} to '{}'", property->name, property->value)));
  return {};
}

Result<> CgroupRestore::write_one(const Group& group, int directory, const PlannedProperty& property) {
  if (!sys::faccessat(directory, property.name, F_OK) && may_be_missing(property.name, property.value))
    return {};
  // The list of devices is changed through other files; its own owner and mode say nothing.
  if (property.perms && property.name != "devices.list")
    TRY(set_perms(directory, property.name, *property.perms));
  if (moment_for(property.name) == Moment::kNever) return {};
  if (!group.made) {
    auto old = TRY(read_property(directory, property.name));
    if (old && *old != property.value)
      old_values_.push_back({group.hierarchy, group.relative, property.name, std::move(*old)});
  }
  return write_property(directory, property.name, property.value);
}

Result<std::vector<CgroupRestore::Target>> CgroupRestore::targets(Position position) const {
  std::vector<Target> places;
  if (is_own(position.set)) {
    for (const auto& hierarchy : layout_.hierarchies()) places.push_back({&hierarchy, hierarchy.own_path, true});
    return places;
  }
  const PlannedSet* const set = plan_.find(position.set);
  if (!set)
    return fail(Error::corrupt(format("there is no cgroup set {}", position.set)).object("cgroup.img"));
  for (const auto& member : set->members) {
    const std::string& path =
        position.at_namespace_root && member.namespace_root ? *member.namespace_root : member.path;
    for (const Hierarchy* const hierarchy : local_[member.hierarchy])
      places.push_back({hierarchy, path, plan_.hierarchies[member.hierarchy].threaded});
  }
  return places;
}

Result<> CgroupRestore::place(pid_t pid, Position to, Position from) { return move(pid, to, from, false); }
Result<> CgroupRestore::place_thread(pid_t tid, Position to, Position from) {
  return move(tid, to, from, true);
}

Result<> CgroupRestore::move(pid_t id, Position to, Position from, bool thread) {
  if (idle()) return {};
  const auto origin = TRY(targets(from));
  for (const auto all = TRY(targets(to)); const auto& [hierarchy, path, threaded] : all) {
    const auto before = std::ranges::find(origin, hierarchy, &Target::hierarchy);
    // A set that does not name a hierarchy leaves its tasks there where the engine is.
    const std::string& old_path = before != origin.end() ? before->path : hierarchy->own_path;
    if (old_path == path || (thread && !threaded)) continue;
    std::string file = TRY(relative_path(path));
    if (!file.empty()) file += '/';
    file += !thread ? "cgroup.procs" : hierarchy->unified() ? "cgroup.threads" : "tasks";
    const auto moved = sys::write_file(TRY(layout_.root(*hierarchy)), file, std::to_string(id));
    if (moved) continue;
    if (moved.error().is_kernel(ESRCH)) return fail(Error::task_died(format("pid {} is gone", id)));
    return fail(Error(moved.error()).object(spoken(*hierarchy, TRY(relative_path(path)))).owner(format("pid {}", id)));
  }
  return {};
}

bool CgroupRestore::has_namespace(std::uint32_t set) const {
  if (idle() || is_own(set)) return false;
  const PlannedSet* const found = plan_.find(set);
  return found && std::ranges::any_of(found->members,
                                      [](const auto& member) { return member.namespace_root.has_value(); });
}

Result<Fd> CgroupRestore::unified_directory(Position to, Position from) {
  if (idle()) return Fd();
  const auto origin = TRY(targets(from)), goal = TRY(targets(to));
  const auto unified = [](const Target& target) { return target.hierarchy->unified(); };
  const auto there = std::ranges::find_if(goal, unified), here = std::ranges::find_if(origin, unified);
  if (there == goal.end() || (here != origin.end() && here->path == there->path)) return Fd();
  return layout_.open(*there->hierarchy, there->path);
}

std::vector<Error> CgroupRestore::rollback() {
  armed_ = false;
  std::vector<Error> left;
  const auto undo = [&](const Hierarchy& hierarchy, const std::string& relative, const Result<>& result) {
    if (!result) left.push_back(Error(result.error()).object(spoken(hierarchy, relative)));
  };
  for (const auto& old : std::views::reverse(old_values_)) {
    const auto directory = layout_.open(*old.hierarchy, "/" + old.relative);
    undo(*old.hierarchy, old.relative,
         directory ? write_property(directory->get(), old.name, old.value) : fail(directory.error()));
  }
  for (const auto& made : std::views::reverse(made_)) {
    const auto root = layout_.root(*made.hierarchy);
    undo(*made.hierarchy, made.relative,
         root ? sys::unlinkat(*root, made.relative, AT_REMOVEDIR) : fail(root.error()));
  }
  old_values_.clear();
  made_.clear();
  return left;
}

}  // namespace dormouse::cgroups
