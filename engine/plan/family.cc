#include "engine/plan/family.h"

#include <sched.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>

#include "base/format.h"
#include "engine/memory/memory_plan.h"
#include "engine/plan/groups.h"

namespace dormouse::engine {
namespace {

constexpr std::uint64_t kShareable[] = {CLONE_VM, CLONE_FILES, CLONE_FS, CLONE_SIGHAND};
constexpr std::uint64_t kAll = CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_SIGHAND;

Error of_task(Error error, const ImageTask& task) {
  return std::move(error).object(format("task {} ({})", task.tree.pid(), task.core.tc().comm()));
}

// The number of the object that a task has of that kind; 0: it has none, or the image does not say.
std::uint32_t object_id(const ImageTask& task, std::uint64_t kind) {
  if (!task.alive()) return 0;
  switch (kind) {
    case CLONE_VM: return task.ids.vm_id();
    case CLONE_FILES: return task.ids.files_id();
    case CLONE_FS: return task.ids.fs_id();
    default: return task.ids.sighand_id();
  }
}

class Planner {
 public:
  // `by_age`: nobody was born into the session of a leader with a higher number. So it is unless numbers had
  // started from the beginning again.
  Planner(const Image& image, bool by_age) : image_(image), tasks_(image.tasks), by_age_(by_age) {}
  Result<Family> plan(bool shell_job);

 private:
  void link();
  [[nodiscard]] Result<> check_root(bool shell_job) const;
  void wish_for_sessions();
  void bear(std::size_t index);
  bool bears_itself(std::size_t parent, std::size_t child) const;
  void register_born(std::size_t index, std::uint64_t shares);
  [[nodiscard]] Result<> adopt_all();
  bool adopt(std::size_t child);
  void record_adoption(std::size_t child, bool by_stand_in, std::size_t giver, std::uint64_t shares);
  std::optional<std::size_t> find_giver(std::size_t child) const;
  Result<bool> make_stand_in(std::size_t child);
  bool leads(std::size_t index) const { return tasks_[index].tree.sid() == tasks_[index].tree.pid(); }
  // By birth: who is adopted by an ancestor stays below its midwife until all are born.
  bool descends(std::size_t from, std::size_t of) const;
  void born_of(std::size_t index, std::size_t giver);
  void bear_child(std::size_t parent, std::size_t child);
  bool is_complete(std::uint32_t session) const;
  bool drop_wish();
  // What two tasks have in common.
  std::uint64_t common(std::size_t one, std::size_t other) const;
  // What the task shares with somebody who is born already.
  std::uint64_t found_by_others(std::size_t index) const;
  void choose_moments();
  [[nodiscard]] Result<> check_sharing() const;
  Error no_way(std::size_t child) const;

  const Image& image_;
  const std::vector<ImageTask>& tasks_;
  const bool by_age_;
  Family family_;
  std::vector<std::vector<std::size_t>> offspring_;          // by parent: all children
  std::vector<std::optional<std::uint32_t>> wanted_;         // the session to be born in; none: any
  std::vector<std::uint32_t> born_session_;
  std::vector<bool> is_born_;
  std::vector<std::size_t> born_of_, depth_;                 // in the tree of births
  std::map<std::uint32_t, std::size_t> index_;               // by pid
  std::map<std::uint32_t, std::vector<std::size_t>> born_by_session_;
  std::set<std::pair<std::uint64_t, std::uint32_t>> born_objects_;  // kind, number
  std::deque<std::size_t> pending_;
};

void Planner::link() {
  const std::size_t count = tasks_.size();
  family_.members.resize(count);
  offspring_.resize(count);
  wanted_.resize(count);
  born_session_.resize(count);
  is_born_.resize(count);
  depth_.resize(count);
  born_of_.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    index_[tasks_[i].tree.pid()] = i;
    if (i == 0) continue;
    const std::size_t parent = index_.at(tasks_[i].tree.ppid());
    family_.members[i].parent = parent;
    offspring_[parent].push_back(i);
  }
}

Result<> Planner::check_root(bool shell_job) const {
  const std::uint32_t sid = tasks_.front().tree.sid();
  if (leads(0) || shell_job || sid == 0) return {};
  return fail(of_task(Error::unsupported(format("its session {} was led by a process outside the tree", sid)), tasks_.front())
                  .remedy("use --shell-job if the caller's session is to take its place"));
}

// A session's leader can be born into any session, and bears its children of an older one before it leads its
// own: it is to be born where they need it.
void Planner::wish_for_sessions() {
  for (std::size_t i = tasks_.size(); i-- > 1;) {
    const std::size_t parent = family_.members[i].parent;
    if (!leads(i)) wanted_[i] = tasks_[i].tree.sid();
    if (!wanted_[i] || parent == 0 || !leads(parent) || *wanted_[i] == tasks_[parent].tree.sid()) continue;
    if (by_age_ && *wanted_[i] > tasks_[parent].tree.pid()) continue;
    const std::uint32_t grandparents = tasks_[family_.members[parent].parent].tree.sid();
    if (!wanted_[parent] || *wanted_[i] == grandparents) wanted_[parent] = wanted_[i];
  }
}

std::uint64_t Planner::common(std::size_t one, std::size_t other) const {
  std::uint64_t both = 0;
  for (const std::uint64_t kind : kShareable)
    if (const auto id = object_id(tasks_[one], kind); id != 0 && id == object_id(tasks_[other], kind)) both |= kind;
  return both;
}

std::uint64_t Planner::found_by_others(std::size_t index) const {
  std::uint64_t found = 0;
  for (const std::uint64_t kind : kShareable)
    if (const auto id = object_id(tasks_[index], kind); id != 0 && born_objects_.contains({kind, id})) found |= kind;
  return found;
}

bool Planner::descends(std::size_t from, std::size_t of) const {
  while (depth_[from] > depth_[of]) from = born_of_[from];
  return from == of;
}

void Planner::born_of(std::size_t index, std::size_t giver) {
  born_of_[index] = giver;
  depth_[index] = depth_[giver] + 1;
}

bool Planner::bears_itself(std::size_t parent, std::size_t child) const {
  if (found_by_others(child) & ~common(parent, child)) return false;
  return !wanted_[child] || *wanted_[child] == tasks_[parent].tree.sid() ||
         (leads(parent) && *wanted_[child] == born_session_[parent]);
}

void Planner::register_born(std::size_t index, std::uint64_t shares) {
  FamilyMember& member = family_.members[index];
  member.shares = shares;
  member.owns = kAll & ~shares;
  member.makes_session = leads(index);
  is_born_[index] = true;
  for (const std::uint64_t kind : kShareable)
    if (const auto id = object_id(tasks_[index], kind); id != 0) born_objects_.insert({kind, id});
  born_by_session_[tasks_[index].tree.sid()].push_back(index);
}

void Planner::bear_child(std::size_t parent, std::size_t child) {
  born_session_[child] = wanted_[child].value_or(tasks_[parent].tree.sid());
  family_.members[parent].children.push_back(child);
  born_of(child, parent);
  register_born(child, common(parent, child));
}

// The task is born: so are all whom it bears itself, and whom they do.
void Planner::bear(std::size_t index) {
  std::vector<std::size_t> next{index};
  while (!next.empty()) {
    const std::size_t parent = next.back();
    next.pop_back();
    for (const std::size_t child : offspring_[parent]) {
      if (!bears_itself(parent, child)) {
        pending_.push_back(child);
        continue;
      }
      bear_child(parent, child);
      next.push_back(child);
    }
  }
}

std::optional<std::size_t> Planner::find_giver(std::size_t child) const {
  const std::size_t parent = family_.members[child].parent;
  const std::uint64_t needed = found_by_others(child);
  const auto fits = [&](std::size_t giver) {
    return giver != parent && descends(giver, parent) && (needed & ~common(giver, child)) == 0;
  };
  if (!wanted_[child]) {
    for (std::size_t i = 0; i < tasks_.size(); ++i)
      if (is_born_[i] && fits(i)) return i;
    return std::nullopt;
  }
  const auto members = born_by_session_.find(*wanted_[child]);
  if (members == born_by_session_.end()) return std::nullopt;
  for (const std::size_t giver : members->second)
    if (fits(giver)) return giver;
  return std::nullopt;
}

void Planner::record_adoption(std::size_t child, bool by_stand_in, std::size_t giver, std::uint64_t shares) {
  const std::size_t parent = family_.members[child].parent;
  auto& all = family_.adoptions;
  if (all.empty() || all.back().by_stand_in != by_stand_in || all.back().giver != giver || all.back().parent != parent)
    all.push_back({by_stand_in, giver, parent, {}, 0});
  all.back().children.push_back(child);
  all.back().shares |= shares;
  family_.members[child].born = BornWhen::kAdopted;
  born_session_[child] = wanted_[child].value_or(by_stand_in ? family_.stand_ins[giver].pid : tasks_[giver].tree.sid());
  born_of(child, by_stand_in ? family_.stand_ins[giver].parent : giver);
  register_born(child, shares);
  bear(child);
}

bool Planner::adopt(std::size_t child) {
  const std::size_t parent = family_.members[child].parent;
  if (bears_itself(parent, child)) {  // by now
    bear_child(parent, child);
    bear(child);
    return true;
  }
  if (wanted_[child] && found_by_others(child) == 0) {
    for (std::size_t i = 0; i < family_.stand_ins.size(); ++i) {
      const StandIn& stand_in = family_.stand_ins[i];
      if (stand_in.pid != *wanted_[child] || !descends(stand_in.parent, parent)) continue;
      record_adoption(child, true, i, 0);
      return true;
    }
  }
  const auto giver = find_giver(child);
  if (!giver) return false;
  record_adoption(child, false, *giver, common(*giver, child));
  return true;
}

// Whether it is known of all members of the session of whom they will be born.
bool Planner::is_complete(std::uint32_t session) const {
  for (std::size_t i = 1; i < tasks_.size(); ++i) {
    const std::size_t parent = family_.members[i].parent;
    if (!is_born_[i] && wanted_[i] == session && !is_born_[parent] && wanted_[parent] != session) return false;
  }
  return true;
}

// Orphans go to ancestors: all who have adopted from one session were ancestors of each other then, and are in
// the tree of births. The stand-in is born of the lowest.
Result<bool> Planner::make_stand_in(std::size_t child) {
  if (!wanted_[child] || *wanted_[child] == 0) return false;
  const std::uint32_t session = *wanted_[child];
  if (index_.contains(session)) return false;
  for (const StandIn& stand_in : family_.stand_ins)
    if (stand_in.pid == session) return false;
  std::size_t lowest = family_.members[child].parent;
  for (const std::size_t other : pending_) {
    const std::size_t parent = family_.members[other].parent;
    if (wanted_[other] == session && depth_[parent] > depth_[lowest] && descends(parent, lowest)) lowest = parent;
  }
  family_.stand_ins.push_back({session, true, lowest});
  return true;
}

// A leader that cannot be born where its children need it is born where its parent is; some other way may be
// found for the children.
bool Planner::drop_wish() {
  for (const std::size_t child : pending_) {
    if (!leads(child) || !wanted_[child]) continue;
    wanted_[child].reset();
    return true;
  }
  return false;
}

Error Planner::no_way(std::size_t child) const {
  const ImageTask& task = tasks_[child];
  if (found_by_others(child) != 0)
    return of_task(Error::unsupported("shares memory, descriptors or directories with a task that cannot have given birth to it"), task)
        .remedy("only sharing among a task, its ancestors and their descendants can be restored");
  return of_task(Error::unsupported(format("its session {} is not that of its parent {}, nor of any of its descendants",
                                           task.tree.sid(), task.tree.ppid())), task)
      .remedy("sessions can be restored whose members descend from one process");
}

Result<> Planner::adopt_all() {
  while (!pending_.empty()) {
    bool any = false;
    for (std::size_t round = pending_.size(); round-- > 0;) {
      const std::size_t child = pending_.front();
      pending_.pop_front();
      if (adopt(child))
        any = true;
      else
        pending_.push_back(child);
    }
    for (std::size_t i = 0; i < pending_.size() && !any; ++i)
      if (wanted_[pending_[i]] && is_complete(*wanted_[pending_[i]])) any = TRY(make_stand_in(pending_[i]));
    for (std::size_t i = 0; i < pending_.size() && !any; ++i) any = TRY(make_stand_in(pending_[i]));
    any = any || drop_wish();
    if (!any) return fail(no_way(pending_.front()));
  }
  return {};
}

// When in its parent's life each child is born.
void Planner::choose_moments() {
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    FamilyMember& member = family_.members[i];
    const std::uint32_t sid = tasks_[i].tree.sid();
    const auto in_own_session = [&](std::size_t child) { return born_session_[child] == sid; };
    member.session_first = member.makes_session && std::ranges::all_of(member.children, in_own_session);
    for (const std::size_t child : member.children) {
      FamilyMember& m = family_.members[child];
      m.inherits_memory = !(m.shares & CLONE_VM) && inherits_memory(tasks_[i], tasks_[child]);
      if (!in_own_session(child)) m.born = m.inherits_memory ? BornWhen::kWithMemory : BornWhen::kEmpty;
      else m.born = m.inherits_memory || (member.makes_session && !member.session_first) ? BornWhen::kInSession : BornWhen::kEmpty;
    }
  }
}

Result<> Planner::check_sharing() const {
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    const std::uint64_t shares = family_.members[i].shares;
    if ((shares & CLONE_SIGHAND) && !(shares & CLONE_VM))
      return fail(of_task(Error::corrupt("shares signal handlers, but not memory, with another task"), tasks_[i]).owner("the image"));
  }
  return {};
}

Result<Family> Planner::plan(bool shell_job) {
  link();
  TRY(check_root(shell_job));
  wish_for_sessions();
  // The root's session comes from outside and has no number, unless the root stays in it.
  born_session_[0] = leads(0) ? 0 : tasks_[0].tree.sid();
  register_born(0, 0);
  bear(0);
  TRY(adopt_all());
  TRY(check_sharing());
  choose_moments();
  TRY(plan_groups(image_, family_));
  return std::move(family_);
}

}  // namespace

Result<Family> plan_family(const Image& image, bool shell_job) {
  Result<Family> likely = Planner(image, true).plan(shell_job);
  if (likely) return likely;
  Result<Family> unlikely = Planner(image, false).plan(shell_job);
  return unlikely ? std::move(unlikely) : std::move(likely);
}

}  // namespace dormouse::engine
