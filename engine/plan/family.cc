#include "engine/plan/family.h"

#include <sched.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>

#include "base/format.h"
#include "engine/memory/memory_plan.h"
#include "engine/plan/groups.h"
#include "engine/plan/lineage.h"

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
  explicit Planner(const Image& image) : image_(image), tasks_(image.tasks) {}
  Result<Family> plan(bool shell_job);

 private:
  // A task, or a leader that is gone: as in Lineage.
  using Node = std::size_t;

  void link();
  [[nodiscard]] Result<> check_root(bool shell_job) const;
  [[nodiscard]] Result<> trace();
  void bear(std::size_t index);
  void register_born(std::size_t index, std::uint64_t shares);
  [[nodiscard]] Result<> adopt_all();
  bool adopt(std::size_t child);
  void record_adoption(std::size_t child, Node giver);
  std::optional<std::size_t> find_giver(std::size_t child) const;
  bool stands_in(Node node) const { return node >= tasks_.size(); }
  bool leads(std::size_t index) const { return tasks_[index].tree.sid() == tasks_[index].tree.pid(); }
  bool is_there(Node node) const { return is_born_[stands_in(node) ? lineage_.born_of[node] : node]; }
  // The session that it is in, in the end.
  std::uint32_t session_of(Node node) const {
    return stands_in(node) ? lineage_.gone[node - tasks_.size()] : tasks_[node].tree.sid();
  }
  // By birth: who is adopted by an ancestor stays below its midwife until all are born.
  bool descends(Node from, Node of) const;
  void born_of(Node node, Node giver);
  void bear_child(std::size_t parent, std::size_t child);
  bool gives_session(std::size_t giver, std::size_t child) const;
  int exit_signal(std::size_t index) const;
  bool bears_as_sibling(Node giver, std::size_t child);
  // What two tasks have in common.
  std::uint64_t common(Node one, std::size_t other) const;
  // What the task shares with somebody who is born already.
  std::uint64_t found_by_others(std::size_t index) const;
  bool shares_enough(Node giver, std::size_t child) const { return (found_by_others(child) & ~common(giver, child)) == 0; }
  void choose_moments();
  [[nodiscard]] Result<> check_sharing() const;
  Error no_way() const;

  const Image& image_;
  const std::vector<ImageTask>& tasks_;
  Family family_;
  Lineage lineage_;
  std::vector<std::vector<std::size_t>> offspring_;          // by parent: all children
  std::vector<std::uint32_t> born_session_;
  std::vector<bool> is_born_;
  std::vector<Node> born_of_;                                // in the tree of births, by node; of siblings: of the parent
  std::vector<std::size_t> depth_;
  std::set<std::pair<std::uint64_t, std::uint32_t>> born_objects_;  // kind, number
  std::deque<std::size_t> pending_;
};

void Planner::link() {
  const std::size_t count = tasks_.size();
  family_.members.resize(count);
  offspring_.resize(count);
  born_session_.resize(count);
  is_born_.resize(count);
  std::map<std::uint32_t, std::size_t> by_pid;
  for (std::size_t i = 0; i < count; ++i) {
    by_pid[tasks_[i].tree.pid()] = i;
    if (i == 0) continue;
    const std::size_t parent = by_pid.at(tasks_[i].tree.ppid());
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

Result<> Planner::trace() {
  std::vector<std::size_t> parents;
  for (const FamilyMember& member : family_.members) parents.push_back(member.parent);
  lineage_ = TRY(trace_lineage(tasks_, parents));
  for (std::size_t i = 0; i < lineage_.gone.size(); ++i)
    family_.stand_ins.push_back({lineage_.gone[i], true, lineage_.born_of[tasks_.size() + i]});
  born_of_.resize(lineage_.born_of.size());
  depth_.resize(lineage_.born_of.size());
  return {};
}

std::uint64_t Planner::common(Node one, std::size_t other) const {
  if (stands_in(one)) return 0;
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

bool Planner::descends(Node from, Node of) const {
  while (depth_[from] > depth_[of]) from = born_of_[from];
  return from == of;
}

void Planner::born_of(Node node, Node giver) {
  born_of_[node] = giver;
  depth_[node] = depth_[giver] + 1;
}

void Planner::register_born(std::size_t index, std::uint64_t shares) {
  FamilyMember& member = family_.members[index];
  member.shares = shares;
  member.owns = kAll & ~shares;
  member.makes_session = leads(index);
  is_born_[index] = true;
  for (const std::uint64_t kind : kShareable)
    if (const auto id = object_id(tasks_[index], kind); id != 0) born_objects_.insert({kind, id});
}

void Planner::bear_child(std::size_t parent, std::size_t child) {
  born_session_[child] = lineage_.born_into[child].value_or(session_of(parent));
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
      if (lineage_.born_of[child] != parent || !shares_enough(parent, child)) {
        pending_.push_back(child);
        continue;
      }
      bear_child(parent, child);
      next.push_back(child);
    }
  }
}

// Now or before it leads a session of its own.
bool Planner::gives_session(std::size_t giver, std::size_t child) const {
  const auto& wanted = lineage_.born_into[child];
  if (!wanted || *wanted == session_of(giver)) return true;
  return leads(giver) && tasks_[giver].alive() && *wanted == born_session_[giver];
}

// Somebody below the one who is to have given birth to it, with whom it shares what it does.
std::optional<std::size_t> Planner::find_giver(std::size_t child) const {
  const Node ancestor = lineage_.born_of[child];
  for (std::size_t i = 0; i < tasks_.size(); ++i)
    if (is_born_[i] && i != ancestor && descends(i, ancestor) && shares_enough(i, child) && gives_session(i, child)) return i;
  return std::nullopt;
}

int Planner::exit_signal(std::size_t index) const {
  const auto other = image_.exit_signals.find(tasks_[index].tree.pid());
  return other == image_.exit_signals.end() ? SIGCHLD : other->second;
}

// Whether it is, and has to be, a sibling by which the parent gets a child with this signal.
bool Planner::bears_as_sibling(Node giver, std::size_t child) {
  const int signal = exit_signal(child);
  if (signal == SIGCHLD || born_of_[giver] != family_.members[child].parent || born_session_[child] != session_of(giver)) return false;
  if (!stands_in(giver)) return exit_signal(giver) == signal;
  int& its_signal = family_.stand_ins[giver - tasks_.size()].exit_signal;
  if (its_signal == SIGCHLD) its_signal = signal;
  return its_signal == signal;
}

void Planner::record_adoption(std::size_t child, Node giver) {
  const std::size_t parent = family_.members[child].parent;
  const bool by_stand_in = stands_in(giver);
  born_session_[child] = lineage_.born_into[child].value_or(session_of(giver));
  Adoption adoption{.by_stand_in = by_stand_in,
                    .giver = by_stand_in ? giver - tasks_.size() : giver,
                    .parent = parent,
                    .as_siblings = bears_as_sibling(giver, child),
                    .early = born_session_[child] != session_of(giver),
                    .children = {}};
  auto& all = family_.adoptions;
  if (all.empty() || !adoption.is_like(all.back())) {
    if (adoption.early) family_.members[giver].early_midwives.push_back(all.size());
    all.push_back(std::move(adoption));
  }
  const std::uint64_t shares = common(giver, child);
  const bool is_sibling = all.back().as_siblings;
  all.back().children.push_back(child);
  all.back().shares |= shares;
  family_.members[child].born = BornWhen::kAdopted;
  born_of(child, is_sibling ? parent : giver);
  register_born(child, shares);
}

bool Planner::adopt(std::size_t child) {
  const Node ancestor = lineage_.born_of[child];
  if (!is_there(ancestor)) return false;
  if (stands_in(ancestor)) born_of(ancestor, lineage_.born_of[ancestor]);
  if (!descends(ancestor, family_.members[child].parent)) return false;  // it was born by a sibling
  if (shares_enough(ancestor, child)) {
    if (ancestor == family_.members[child].parent) bear_child(ancestor, child);
    else record_adoption(child, ancestor);
  } else {
    const auto giver = find_giver(child);
    if (!giver) return false;
    record_adoption(child, *giver);
  }
  bear(child);
  return true;
}

Error Planner::no_way() const {
  const auto is_ready = [this](std::size_t child) { return is_there(lineage_.born_of[child]); };
  const auto ready = std::ranges::find_if(pending_, is_ready);
  const std::size_t child = ready == pending_.end() ? pending_.front() : *ready;
  if (found_by_others(child) == 0)
    return of_task(Error::unsupported(format("no history is found that has it below parent {}", tasks_[child].tree.ppid())), tasks_[child]);
  return of_task(Error::unsupported("shares memory, descriptors or directories with a task that cannot have given birth to it"),
                 tasks_[child])
      .remedy("only sharing among a task, its ancestors and their descendants can be restored");
}

Result<> Planner::adopt_all() {
  while (!pending_.empty()) {
    bool any = false;
    for (std::size_t round = pending_.size(); round-- > 0;) {
      const std::size_t child = pending_.front();
      pending_.pop_front();
      if (adopt(child)) any = true;
      else pending_.push_back(child);
    }
    if (!any) return fail(no_way());
  }
  return {};
}

// When in its parent's life each child is born.
void Planner::choose_moments() {
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    FamilyMember& member = family_.members[i];
    const std::uint32_t sid = tasks_[i].tree.sid();
    const auto in_own_session = [&](std::size_t child) { return born_session_[child] == sid; };
    member.session_first = member.makes_session && member.early_midwives.empty() && std::ranges::all_of(member.children, in_own_session);
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
  TRY(trace());
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

Result<Family> plan_family(const Image& image, bool shell_job) { return Planner(image).plan(shell_job); }

}  // namespace dormouse::engine
