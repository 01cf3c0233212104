#include "cgroups/save.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>

#include <algorithm>
#include <set>

#include "base/defer.h"
#include "base/format.h"
#include "cgroups/freezer.h"
#include "images/schema/cgroups.pb.h"
#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::cgroups {

namespace {

// What the task itself sees in its /proc/self/cgroup: the file shows paths relative to its *reader's*
// cgroup namespace, so we enter the task's for a moment.
Result<std::string> read_inside(const proc::ProcDir& task) {
  const Fd own = TRY(sys::openat(AT_FDCWD, "/proc/self/ns/cgroup", O_RDONLY));
  const Fd other = TRY(task.open_at("ns/cgroup", O_RDONLY));
  TRY_OR(sys::setns(other.get(), CLONE_NEWCGROUP),
         std::move(e).during("entering the task's cgroup namespace"));
  const Defer back([&] { (void)sys::setns(own.get(), CLONE_NEWCGROUP); });
  return task.read("cgroup");
}

template <class Perms>
void set_perms(const struct ::stat& st, Perms& to) {
  to.set_mode(st.st_mode);  // with the file type, as the format has it
  to.set_uid(st.st_uid);
  to.set_gid(st.st_gid);
}

const RootOverride* override_for(const std::vector<RootOverride>& roots, const Hierarchy& hierarchy) {
  const RootOverride* found = nullptr;
  for (const auto& root : roots) {
    if (!root.every_controller && root.controller == hierarchy.name) return &root;
    if (root.every_controller) found = &root;
  }
  return found;
}

}  // namespace

SavedCgroups SavedCgroups::begin(Layout& layout, SaveOptions options) {
  SavedCgroups saved(layout, std::move(options));
  std::vector<Member> own;
  for (const auto& hierarchy : layout.hierarchies())
    if (saved.wanted(hierarchy)) own.push_back({&hierarchy, hierarchy.own_path});
  saved.add_set(std::move(own));
  return saved;
}

bool SavedCgroups::wanted(const Hierarchy& hierarchy) const {
  const auto& only = options_.only_controllers;
  return only.empty() || std::ranges::find(only, hierarchy.name) != only.end();
}

std::uint32_t SavedCgroups::add_set(std::vector<Member> members) {
  std::ranges::sort(members, {}, [](const Member& m) -> const std::string& { return m.hierarchy->name; });
  for (const auto& set : sets_)
    if (set.members == members) return set.id;
  const auto id = static_cast<std::uint32_t>(sets_.size()) + kOwnSet;
  sets_.push_back({id, std::move(members)});
  return id;
}

Result<std::vector<SavedCgroups::Member>> SavedCgroups::members_from(const std::string& text) const {
  std::vector<Member> members;
  for (auto all = TRY(proc::parse_cgroup(text)); auto& line : all) {
    const auto hierarchy = std::ranges::find(layout_.hierarchies(), line.controllers, &Hierarchy::name);
    // One that somebody mounts while tasks are looked at has but its root, where all tasks are: as if it was not there yet.
    if (hierarchy == layout_.hierarchies().end() && line.path == "/") continue;
    if (hierarchy == layout_.hierarchies().end())
      return fail(Error::unsupported("a cgroup hierarchy was mounted while tasks were looked at")
                      .object(format("cgroup hierarchy '{}'", line.controllers))
                      .remedy("try again"));
    if (wanted(*hierarchy)) members.push_back({&*hierarchy, std::move(line.path)});
  }
  return members;
}

Result<> SavedCgroups::learn_namespace(const proc::ProcDir& task, const std::string& outside) {
  if (namespace_ == TRY(sys::readlinkat(AT_FDCWD, "/proc/self/ns/cgroup"))) return {};
  const std::string inside = TRY(read_inside(task));
  const auto inner = TRY(members_from(inside));
  for (const auto all = TRY(members_from(outside)); const auto& member : all) {
    const auto same = std::ranges::find(inner, member.hierarchy, &Member::hierarchy);
    if (same == inner.end() || same->path == member.path) continue;
    // "/a/b/c" outside, "/c" inside: the namespace begins at "/a/b".
    const std::string_view tail = same->path == "/" ? std::string_view() : same->path;
    if (!std::string_view(member.path).ends_with(tail))
      return fail(Error::unsupported("the root task is outside of its own cgroup namespace")
                      .object(format("cgroup {} of hierarchy '{}'", member.path, member.hierarchy->name)));
    namespace_roots_[member.hierarchy] = member.path.substr(0, member.path.size() - tail.size());
  }
  return {};
}

Result<SavedCgroups::Membership> SavedCgroups::membership_of(const proc::ProcDir& task) {
  const auto told = [&](Error error) { return std::move(error).owner(format("pid {}", task.pid())); };
  Membership membership{.id = task.pid(), .space = {}, .text = {}};
  membership.space = TRY_OR(task.read_link("ns/cgroup"), told(std::move(e)));
  membership.text = TRY_OR(task.read("cgroup"), told(std::move(e)));
  return membership;
}

Result<std::uint32_t> SavedCgroups::set_of(const proc::ProcDir& task) {
  return set_of(task, TRY(membership_of(task)));
}

Result<std::uint32_t> SavedCgroups::set_of(const proc::ProcDir& task, Membership membership) {
  auto& [id, space, text] = membership;
  const auto told = [who = id](Error error) { return std::move(error).owner(format("pid {}", who)); };
  if (namespace_.empty()) {
    namespace_ = space;
    TRY_OR(learn_namespace(task, text), told(std::move(e)));
  } else if (space != namespace_) {
    return fail(told(Error::unsupported("it has another cgroup namespace than the root task"))
                    .object("cgroup namespace").remedy("not supported: let it share the root task's"));
  }
  if (const auto known = by_text_.find(text); known != by_text_.end()) return known->second;

  auto members = TRY_OR(members_from(text), told(std::move(e)));
  for (const auto& member : members) {
    const auto root = namespace_roots_.find(member.hierarchy);
    if (root != namespace_roots_.end() && !is_below(member.path, root->second))
      return fail(told(Error::unsupported("it is outside of the root task's cgroup namespace"))
                      .object(format("cgroup {}", member.path)));
  }
  const std::uint32_t set = add_set(std::move(members));
  by_text_.emplace(std::move(text), set);
  return set;
}

Result<std::optional<pb::cgroup_entry>> SavedCgroups::collect() {
  if (sets_.size() == 1) return std::nullopt;
  pb::cgroup_entry record;
  for (const auto& set : sets_) {
    if (set.id == kOwnSet) continue;
    auto& entry = *record.add_sets();
    entry.set_id(set.id);
    for (const auto& member : set.members) {
      auto& to = *entry.add_ctls();
      to.set_name(member.hierarchy->name);
      to.set_path(member.path);
      if (const auto root = namespace_roots_.find(member.hierarchy); root != namespace_roots_.end())
        to.set_cgns_prefix(static_cast<std::uint32_t>(root->second.size()));
    }
  }
  // Named hierarchies come last, as the reference engine has it.
  for (const bool named : {false, true})
    for (const auto& hierarchy : layout_.hierarchies()) {
      if (hierarchy.named() != named || !wanted(hierarchy)) continue;
      auto& controller = *record.add_controllers();
      for (const auto& name : hierarchy.controllers) controller.add_cnames(name);
      controller.set_is_threaded(false);
      if (options_.mode != Mode::kIgnore) TRY(add_groups(hierarchy, controller));
    }
  return record;
}

Result<> SavedCgroups::add_groups(const Hierarchy& hierarchy, pb::cg_controller_entry& to) {
  std::set<std::string> paths;  // sorted: a group comes before those below it
  const RootOverride* const root = override_for(options_.roots, hierarchy);
  for (const auto& set : sets_)
    for (const auto& member : set.members)
      if (set.id != kOwnSet && member.hierarchy == &hierarchy) paths.insert(root ? root->path : member.path);

  const auto names = options_.properties.names_for(hierarchy);
  std::vector<std::string> tops;
  for (const auto& path : paths) {
    const std::string relative = TRY(relative_path(path));
    // The top of a hierarchy is the node's, and so is everything in it but the tasks' own groups.
    if (relative.empty()) {
      to.add_dirs()->set_dir_name("");
      continue;
    }
    if (std::ranges::any_of(tops, [&](const auto& top) { return is_below(path, top); })) continue;
    const Fd group = TRY(layout_.open(hierarchy, path));
    auto& entry = *to.add_dirs();
    entry.set_dir_name(relative);
    TRY_OR(add_group(hierarchy, names, group.get(), true, to, entry),
           std::move(e).object(format("cgroup {} of hierarchy '{}'", path, hierarchy.name)));
    tops.push_back(path);
  }
  return {};
}

Result<> SavedCgroups::add_group(const Hierarchy& hierarchy, const std::vector<std::string>& names,
                                 int group, bool top, pb::cg_controller_entry& controller,
                                 pb::cgroup_dir_entry& to) {
  set_perms(TRY(sys::fstat(group)), *to.mutable_dir_perms());
  TRY(add_properties(hierarchy, names, group, controller, to));
  if (top && options_.freezer && hierarchy.name == "freezer") {
    auto& state = *to.add_properties();
    state.set_name("freezer.state");
    state.set_value(options_.freezer->was_frozen() ? "FROZEN" : "THAWED");
    set_perms(TRY(sys::fstatat(group, "freezer.state")), *state.mutable_perms());
  }
  for (const auto all = TRY(sys::list_directory(group, ".")); const auto& child : all) {
    if (child.type != DT_DIR) continue;
    const Fd below = TRY(sys::openat(group, child.name, O_RDONLY | O_DIRECTORY));
    auto& entry = *to.add_children();
    entry.set_dir_name(child.name);
    TRY(add_group(hierarchy, names, below.get(), false, controller, entry));
  }
  return {};
}

Result<> SavedCgroups::add_properties(const Hierarchy& hierarchy, const std::vector<std::string>& names,
                                      int group, pb::cg_controller_entry& controller,
                                      pb::cgroup_dir_entry& to) {
  for (const auto& name : names) {
    auto value = TRY_OR(read_property(group, name), std::move(e).during(name));
    if (!value || (hierarchy.unified() && is_v2_default(name, *value))) continue;
    // Threads have groups of their own in every v1 hierarchy, and in v2 groups made for that.
    if (name == "tasks" || (name == "cgroup.type" && *value == "threaded")) controller.set_is_threaded(true);
    if (name == "cgroup.freeze" && options_.freezer && options_.freezer->is_of(group))
      value.emplace(1, options_.freezer->was_frozen() ? '1' : '0');
    auto& property = *to.add_properties();
    property.set_name(name);
    property.set_value(std::move(*value));
    set_perms(TRY(sys::fstatat(group, name)), *property.mutable_perms());
  }
  return {};
}

}  // namespace dormouse::cgroups
