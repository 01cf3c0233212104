#include "engine/mounts/mount_plan.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/format.h"
#include "base/text.h"
#include "engine/externals.h"
#include "engine/mounts/describe.h"
#include "engine/mounts/filesystems.h"
#include "engine/mounts/mount_flags.h"
#include "engine/mounts/mount_table.h"

namespace dormouse::engine {

namespace {

// A record of the image and what was found out about it. Indices are into Planner::items_.
struct Item {
  const pb::mnt_entry* entry = nullptr;
  int parent = -1;
  std::string root;             // which directory of its file system; "": not known
  std::optional<std::string> external;  // the node's path that stands for it
  std::string device;           // an external device
  MountStep step;
  int number = -1;              // of its step, once it has one
  bool visiting = false;

  const std::string& mount_point() const { return entry->mountpoint(); }
  std::uint32_t device_number() const { return entry->root_dev(); }
};

Failure corrupt(const Item& item, std::string reason) {
  return fail(Error::corrupt(std::move(reason)).object(item.step.object()));
}
Failure unsupported(const Item& item, std::string reason, std::string remedy) {
  return fail(Error::unsupported(std::move(reason)).object(item.step.object()).remedy(std::move(remedy)));
}

class Planner {
 public:
  explicit Planner(const RestoreContext& context)
      : options_(context.options), auto_external_(auto_external(context.options)) {
    // The file has the kernel's order backwards.
    const auto& mounts = context.image.mounts;
    items_.resize(mounts.size());
    for (std::size_t i = 0; i < mounts.size(); ++i) items_[i].entry = &mounts[mounts.size() - 1 - i];
  }

  Result<MountPlan> run() {
    const bool joined = std::ranges::any_of(
        options_.join_namespaces, [](const auto& join) { return join.kind == "mnt"; });
    if (items_.empty() || joined) return MountPlan();
    if (options_.root.empty())
      return fail(Error::bad_option("a saved mount namespace can only be built on a root directory")
                      .object("mount namespace")
                      .remedy("name one with --root"));
    TRY(find_parents());
    for (auto& item : items_) TRY(find_source(item));
    for (auto& item : items_) TRY(choose_kind(item));
    TRY(place_all());
    TRY(form_groups());
    return std::move(plan_);
  }

 private:
  // --- the tree ---------------------------------------------------------------------------------

  [[nodiscard]] Result<> find_parents() {
    std::map<std::uint32_t, int> by_id;
    for (int i = 0; auto& item : items_) {
      item.step.id = item.entry->mnt_id();
      item.step.mount_point = item.mount_point();
      if (!item.mount_point().starts_with('/')) return corrupt(item, "its mount point is not absolute");
      if (!by_id.emplace(item.entry->mnt_id(), i++).second)
        return corrupt(item, "two mounts have the same id");
    }
    for (int i = 0; auto& item : items_) {
      const auto parent = by_id.find(item.entry->parent_mnt_id());
      if (parent != by_id.end() && parent->second != i) {
        item.parent = parent->second;
        if (!is_below(item.mount_point(), items_[item.parent].mount_point()))
          return corrupt(item, format("it is not below its parent, mount {}", items_[item.parent].step.id));
      } else if (item.mount_point() != "/" || root_ != -1) {
        return corrupt(item, "the mount it is on is missing");
      } else {
        root_ = i;
      }
      ++i;
    }
    if (root_ == -1) return fail(Error::corrupt("no mount is the root").object("mount namespace"));
    return {};
  }

  bool is_root(const Item& item) const { return &item == &items_[root_]; }

  // --- where each mount comes from --------------------------------------------------------------

  [[nodiscard]] Result<> find_source(Item& item) {
    const pb::mnt_entry& entry = *item.entry;
    item.root = entry.root();
    const std::uint32_t flags = entry.flags();
    const SplitFlags old = split_flags(flags);
    item.step.attributes = mount_attributes(entry.has_sb_flags() ? flags : old.mount);
    item.step.super_flags = entry.has_sb_flags() ? entry.sb_flags() : old.super;
    item.step.unbindable = flags & MS_UNBINDABLE;
    if (is_root(item)) return {};
    if (entry.with_plugin())
      return unsupported(item, "a plugin of the reference engine saved it", "not supported");

    // Images of early versions have the name in the root's place.
    std::string key = entry.ext_key();
    if (entry.ext_mount()) key = std::exchange(item.root, "");
    if (key.empty() && !entry.has_ext_key() && !entry.ext_mount()) return {};
    if (key == kExternalDevice) return find_device(item);
    if (key == kAutoExternal) {
      if (!auto_external_.mounts)
        return unsupported(item, format("it is {} of the node where the checkpoint was made", entry.source()),
                           "allow this with --external mnt[]");
      item.external = entry.source();
      return {};
    }
    const auto path = external_mount(options_, key);
    if (!path)
      return fail(Error::bad_option(format("it comes from outside under the name '{}', and nobody said "
                                           "from where on this node", key))
                      .object(item.step.object())
                      .remedy(format("name the path with --external mnt[{}]:PATH", key)));
    item.external = *path;
    return {};
  }

  [[nodiscard]] Result<> find_device(Item& item) {
    std::string_view name = item.entry->source();
    if (consume_prefix(name, "dev[") && name.ends_with(']')) name.remove_suffix(1);
    const auto path = external_value(options_.externals, "dev", name);
    if (!path)
      return fail(Error::bad_option(format("nobody said which device of this node is '{}'", name))
                      .object(item.step.object())
                      .remedy(format("name it with --external dev[{}]:PATH", name)));
    item.device = *path;
    return {};
  }

  // A mount of the same file system that shows at least as much. Roots that are not known show nothing.
  template <class Predicate>
  int find_provider(const Item& item, Predicate predicate) const {
    for (int i = 0; const auto& other : items_) {
      if (other.device_number() == item.device_number() && !other.root.empty() &&
          is_below(item.root, other.root) && predicate(other))
        return i;
      ++i;
    }
    return -1;
  }

  [[nodiscard]] Result<> choose_kind(Item& item) {
    MountStep& step = item.step;
    if (is_root(item)) {
      step.kind = MountStep::Kind::kRoot;
      return {};
    }
    if (item.external) {
      step.kind = MountStep::Kind::kExternal;
      step.source = *item.external;
      return {};
    }
    int provider = find_provider(item, [&](const Item& other) { return is_root(other) || other.external; });
    if (provider == -1)
      provider = find_provider(item, [](const Item& other) { return other.root == "/"; });
    if (provider == -1)
      return unsupported(item, format("no mount of the image shows {} of the same file system", item.root),
                         "checkpoint it as an external mount");
    if (&items_[provider] == &item) return choose_new(item);
    if (item.entry->deleted())
      return unsupported(item, format("what it shows, {}, had been deleted", item.root),
                         "checkpoint it as an external mount");
    step.kind = MountStep::Kind::kBind;
    step.provider = provider;  // of items_; becomes a step's number when it is placed
    step.source = path_below(item.root, items_[provider].root);
    Item& from = items_[provider];
    if (from.entry->fstype() == pb::DEVPTS)
      if (const auto index = parse_number<std::uint32_t>(step.source)) from.step.terminals.push_back(*index);
    return {};
  }

  [[nodiscard]] Result<> choose_new(Item& item) {
    MountStep& step = item.step;
    const pb::mnt_entry& entry = *item.entry;
    const Filesystem* const filesystem = filesystem_by_number(entry.fstype());
    if (filesystem && filesystem->content == Content::kRefused)
      return unsupported(item, format("a {} file system cannot be made anew", filesystem->name),
                         "checkpoint it as an external mount");
    if (filesystem) step.type = filesystem->name;
    else if (entry.fstype() == pb::AUTO) step.type = entry.fsname();
    if (step.type.empty())
      return unsupported(item, format("the type of the file system on {} is not known", entry.source()),
                         "checkpoint it as an external mount");
    step.kind = MountStep::Kind::kNew;
    step.source = item.device.empty() ? entry.source() : item.device;
    step.options = options_.lsm_mount_context.empty() ? entry.options()
                                                      : with_label(entry.options(), options_.lsm_mount_context);
    if (filesystem && filesystem->content == Content::kTmpfs) step.archive = entry.root_dev();
    return {};
  }

  // --- order ------------------------------------------------------------------------------------

  // A mount comes after its parent, after what it is a copy of, and after those of its siblings whose
  // mount points it will cover.
  [[nodiscard]] Result<> place_all() {
    std::vector<std::vector<int>> children(items_.size());
    for (int i = 0; i < count(); ++i)
      if (items_[i].parent != -1) children[items_[i].parent].push_back(i);
    for (int i = 0; i < count(); ++i) TRY(place(i, children));
    for (int i = 0; i < static_cast<int>(plan_.steps.size()); ++i)
      if (const int provider = plan_.steps[i].provider; provider != -1)
        plan_.steps[provider].copies.push_back(i);
    return {};
  }

  [[nodiscard]] Result<> place(int index, const std::vector<std::vector<int>>& children) {
    Item& item = items_[index];
    if (item.number != -1) return {};
    if (item.visiting)
      return unsupported(item, "it is needed before the mount that it is on, or is a copy of, exists",
                         "checkpoint one of them as an external mount");
    item.visiting = true;
    if (item.parent != -1) {
      TRY(place(item.parent, children));
      for (const int sibling : children[item.parent]) {
        const std::string& place_of_sibling = items_[sibling].mount_point();
        if (sibling == index || !is_below(place_of_sibling, item.mount_point())) continue;
        if (place_of_sibling == item.mount_point())
          return corrupt(item, format("mount {} is in the same place", items_[sibling].step.id));
        TRY(place(sibling, children));
      }
      item.step.parent = items_[item.parent].number;
      item.step.target = path_below(item.mount_point(), items_[item.parent].mount_point());
    }
    if (item.step.provider != -1) {
      TRY(place(item.step.provider, children));
      item.step.provider = items_[item.step.provider].number;
    }
    item.number = static_cast<int>(plan_.steps.size());
    plan_.steps.push_back(item.step);
    return {};
  }

  int count() const { return static_cast<int>(items_.size()); }

  // --- propagation ------------------------------------------------------------------------------

  [[nodiscard]] Result<> form_groups() {
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::vector<int>> members;  // of items_
    for (int i = 0; i < count(); ++i) {
      const auto& entry = *items_[i].entry;
      if (entry.shared_id() || entry.master_id())
        members[{entry.shared_id(), entry.master_id()}].push_back(i);
    }
    std::vector<std::pair<std::uint32_t, std::uint32_t>> waiting;
    for (auto& [ids, items] : members) {
      TRY(widest_first(items));
      waiting.push_back(ids);
    }
    // Masters first. The groups form a forest, so every round places some.
    while (!waiting.empty()) {
      const auto ready = [&](const auto& ids) {
        return std::ranges::none_of(waiting, [&](const auto& other) {
          return ids.second && other.first == ids.second;
        });
      };
      const auto next = std::ranges::find_if(waiting, ready);
      if (next == waiting.end())
        return fail(Error::corrupt(format("peer group {} follows itself", waiting.front().first))
                        .object("mount namespace"));
      TRY(form_group(*next, members));
      waiting.erase(next);
    }
    return {};
  }

  // The first member gives its membership to the others, who must show a part of what it shows.
  [[nodiscard]] Result<> widest_first(std::vector<int>& items) const {
    const auto widest = std::ranges::min_element(
        items, {}, [&](int index) { return items_[index].root.size(); });
    std::iter_swap(items.begin(), widest);
    const Item& first = items_[items.front()];
    for (const int index : items) {
      const Item& item = items_[index];
      if (item.device_number() != first.device_number())
        return corrupt(item, format("it is a peer of mount {} of another file system", first.step.id));
      if (!is_below(item.root, first.root))
        return unsupported(item, format("it and its peer, mount {}, show different parts of one file system",
                                        first.step.id),
                           "make one of them private before the checkpoint");
    }
    return {};
  }

  [[nodiscard]] Result<> form_group(
      std::pair<std::uint32_t, std::uint32_t> ids,
      const std::map<std::pair<std::uint32_t, std::uint32_t>, std::vector<int>>& all) {
    SharingGroup group;
    group.shared_id = ids.first;
    group.master_id = ids.second;
    const Item& first = items_[all.at(ids).front()];
    for (const int index : all.at(ids)) group.members.push_back(items_[index].number);
    bool master_inside = false;
    for (const auto& [other, peers] : all) {
      if (!ids.second || other.first != ids.second) continue;
      master_inside = true;
      for (const int index : peers)
        if (group.master_step == -1 && items_[index].device_number() == first.device_number() &&
            is_below(first.root, items_[index].root))
          group.master_step = items_[index].number;
    }
    if (master_inside && group.master_step == -1)
      return unsupported(first, "it and the mount it follows show different parts of one file system",
                         "make it private before the checkpoint");
    if (ids.second && !master_inside)
      for (const int number : group.members) plan_.steps[number].keep_master = true;
    plan_.groups.push_back(std::move(group));
    return {};
  }

  const RestoreOptions& options_;
  const AutoExternal auto_external_;
  std::vector<Item> items_;
  int root_ = -1;
  MountPlan plan_;
};

std::string_view name_of(MountStep::Kind kind) {
  switch (kind) {
    case MountStep::Kind::kRoot: return "root";
    case MountStep::Kind::kExternal: return "external";
    case MountStep::Kind::kNew: return "new";
    case MountStep::Kind::kBind: return "bind";
  }
  return "?";
}

}  // namespace

MountPlan::MountPlan() = default;
MountPlan::MountPlan(MountPlan&&) noexcept = default;
MountPlan& MountPlan::operator=(MountPlan&&) noexcept = default;
MountPlan::~MountPlan() = default;
bool MountPlan::empty() const { return steps.empty(); }

std::string MountStep::object() const { return format("mount {} (id {})", mount_point, id); }

Result<MountPlan> plan_mounts(const RestoreContext& context) { return Planner(context).run(); }

std::vector<std::string> describe_plan(const MountPlan& plan) {
  std::vector<std::string> lines;
  for (const auto& step : plan.steps) {
    std::string line = format("{} {} at {}", name_of(step.kind), step.id, step.mount_point);
    if (step.kind == MountStep::Kind::kNew) line += format(": {} {} {}", step.type, step.source, step.options);
    if (step.kind == MountStep::Kind::kExternal) line += format(": {}", step.source);
    if (step.kind == MountStep::Kind::kBind)
      line += format(": {} of {}", step.source.empty() ? "all" : step.source, plan.steps[step.provider].id);
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace dormouse::engine
