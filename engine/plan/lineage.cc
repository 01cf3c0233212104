#include "engine/plan/lineage.h"

#include <algorithm>
#include <map>

#include "base/format.h"

namespace dormouse::engine {
namespace {

// A task, a leader that is gone, or whoever leads the session that the root comes from.
using Node = std::size_t;

// How much is tried where numbers mislead: attempts, and tasks that are looked at in all of them.
constexpr std::size_t kMostAttempts = 4096, kMostLooks = std::size_t{4} << 20;

class Tracer {
 public:
  Tracer(const std::vector<ImageTask>& tasks, std::span<const std::size_t> parents) : tasks_(tasks), parents_(parents) {}
  Result<Lineage> trace();

 private:
  enum class Step : std::uint8_t { kDone, kOpen, kImpossible };

  [[nodiscard]] Result<> find_leaders();
  bool leads(Node node) const { return node < tasks_.size() && tasks_[node].tree.sid() == tasks_[node].tree.pid(); }
  bool attempt();
  bool settle_what_is_clear();
  Step settle(Node task, bool may_choose);
  bool line_up(Node task, std::vector<Node> mine, std::vector<Node> its, bool may_choose);
  bool comes_first(Node one, Node other);
  bool think_again();
  bool can_be_between(Node node, Node leader) const;
  // Of its session, and known to be below it.
  bool is_member(Node node, Node leader) const {
    return node < tasks_.size() && !leads(node) && is_settled_[node] && leader_[node] == leader;
  }
  bool is_at_or_below(Node node, Node of) const;
  std::vector<Node> path_to(Node node) const;
  bool find_sessions();
  bool blame(Node task);
  Lineage lineage() const;
  Error of_task(Error error, Node task) const {
    return std::move(error).object(format("task {} ({})", tasks_[task].tree.pid(), tasks_[task].core.tc().comm()));
  }
  Error no_way() const;

  const std::vector<ImageTask>& tasks_;
  std::span<const std::size_t> parents_;
  std::vector<std::uint32_t> number_;        // by node
  Node outside_ = 0;                         // the last one
  std::vector<Node> leader_;                 // by task: of its session
  std::vector<Node> members_;                // tasks that do not lead
  // One attempt.
  std::vector<Node> born_of_;                // by node
  std::vector<Node> open_;                   // members whose leader is not above them yet
  std::vector<bool> is_settled_;             // by task
  std::vector<std::optional<Node>> into_;    // by task: a leader that was born into that one's session
  // Decisions in order: true if against the numbers. The first attempt makes them, the next ones change the last.
  std::vector<bool> against_;
  std::size_t decided_ = 0;
  std::optional<Node> blamed_;
};

Result<> Tracer::find_leaders() {
  std::map<std::uint32_t, Node> by_number;
  for (Node i = 0; i < tasks_.size(); ++i) {
    number_.push_back(tasks_[i].tree.pid());
    by_number[tasks_[i].tree.pid()] = i;
  }
  const std::uint32_t outside = leads(0) ? 0 : tasks_.front().tree.sid();
  constexpr Node kOutside = ~Node{0};
  for (Node i = 0; i < tasks_.size(); ++i) {
    const std::uint32_t sid = tasks_[i].tree.sid();
    is_settled_.push_back(leads(i));
    if (leads(i)) {
      leader_.push_back(i);
      continue;
    }
    members_.push_back(i);
    if (sid == 0 || sid == outside) {
      leader_.push_back(kOutside);
      continue;
    }
    const auto [found, is_new] = by_number.emplace(sid, number_.size());
    if (is_new) number_.push_back(sid);
    leader_.push_back(found->second);
    if (found->second < tasks_.size() && !leads(found->second))
      return fail(of_task(Error::corrupt(format("its session {} has the number of a task that does not lead one", sid)), i)
                      .owner("the image"));
  }
  outside_ = number_.size();
  number_.push_back(outside);
  std::ranges::replace(leader_, kOutside, outside_);
  return {};
}

bool Tracer::is_at_or_below(Node node, Node of) const {
  while (node != of && node != outside_) node = born_of_[node];
  return node == of;
}

std::vector<Node> Tracer::path_to(Node node) const {
  std::vector<Node> path{node};
  while (path.back() != outside_) path.push_back(born_of_[path.back()]);
  std::ranges::reverse(path);
  return path;
}

// Whether the node can have been in the session of `leader` without leading it.
bool Tracer::can_be_between(Node node, Node leader) const {
  if (node >= tasks_.size()) return false;
  if (!leads(node)) return leader_[node] == leader;
  return tasks_[node].alive() && into_[node].value_or(leader) == leader;
}

bool Tracer::comes_first(Node one, Node other) {
  if (decided_ == against_.size()) against_.push_back(false);
  return (number_[one] < number_[other]) != against_[decided_++];
}

// The last decision that has not been changed yet is. False: there is none.
bool Tracer::think_again() {
  while (!against_.empty() && against_.back()) against_.pop_back();
  if (against_.empty()) return false;
  against_.back() = true;
  return true;
}

// The task is to be below both of two lines, which become one. False: there is something to choose.
bool Tracer::line_up(Node task, std::vector<Node> mine, std::vector<Node> its, bool may_choose) {
  const auto [fork_mine, fork_its] = std::ranges::mismatch(mine, its);
  Node last = *(fork_mine - 1);
  mine.erase(mine.begin(), fork_mine);
  its.erase(its.begin(), fork_its);
  const Node leader = leader_[task];
  const auto cannot = [&](Node node) { return !can_be_between(node, leader); };
  const auto before_leader = static_cast<std::size_t>(std::find_if(mine.rbegin(), mine.rend(), cannot).base() - mine.begin());
  std::vector<Node> line;
  std::size_t i = 0, j = 0;
  while (i < mine.size() && j < its.size()) {
    const bool is_clear = its[j] == leader && i < before_leader;
    if (!is_clear && !may_choose) return false;
    line.push_back(is_clear || comes_first(mine[i], its[j]) ? mine[i++] : its[j++]);
  }
  line.insert(line.end(), mine.begin() + static_cast<std::ptrdiff_t>(i), mine.end());
  line.insert(line.end(), its.begin() + static_cast<std::ptrdiff_t>(j), its.end());
  line.push_back(task);
  for (const Node node : line) {
    born_of_[node] = last;
    last = node;
  }
  return true;
}

// Its leader becomes an ancestor.
Tracer::Step Tracer::settle(Node task, bool may_choose) {
  const Node leader = leader_[task];
  if (!is_member(born_of_[task], leader) && !is_at_or_below(born_of_[task], leader)) {
    if (is_at_or_below(leader, task)) return Step::kImpossible;
    if (!line_up(task, path_to(born_of_[task]), path_to(leader), may_choose)) return Step::kOpen;
  }
  is_settled_[task] = true;
  return Step::kDone;
}

bool Tracer::settle_what_is_clear() {
  for (bool any = true; any;) {
    any = false;
    std::vector<Node> still_open;
    for (const Node task : open_) {
      const Step step = settle(task, false);
      if (step == Step::kImpossible) return blame(task);
      if (step == Step::kOpen) still_open.push_back(task);
      else any = true;
    }
    open_ = std::move(still_open);
  }
  return true;
}

// What leaders were born into, by what was born below them. False: nothing will do.
bool Tracer::find_sessions() {
  std::ranges::fill(into_, std::nullopt);
  for (const Node task : members_) {
    const Node leader = leader_[task];
    if (!is_settled_[task]) continue;
    for (Node between = born_of_[task]; between != leader && !is_member(between, leader); between = born_of_[between]) {
      if (!can_be_between(between, leader)) return blame(task);
      into_[between] = leader;
    }
  }
  return true;
}

bool Tracer::attempt() {
  born_of_.assign(number_.size(), 0);
  std::ranges::copy(parents_, born_of_.begin());
  born_of_[0] = outside_;
  into_.assign(tasks_.size(), std::nullopt);
  for (const Node task : members_) is_settled_[task] = false;
  open_ = members_;
  decided_ = 0;
  for (;;) {
    if (!settle_what_is_clear() || !find_sessions()) return false;
    if (open_.empty()) break;
    if (settle(open_.front(), true) == Step::kImpossible) return blame(open_.front());
    open_.erase(open_.begin());
  }
  for (const Node task : members_)
    if (leader_[task] >= tasks_.size() && leader_[task] != outside_ && born_of_[leader_[task]] >= tasks_.size()) return blame(task);
  return true;
}

bool Tracer::blame(Node task) {
  if (!blamed_) blamed_ = task;
  return false;
}

Lineage Tracer::lineage() const {
  Lineage found;
  found.gone.assign(number_.begin() + static_cast<std::ptrdiff_t>(tasks_.size()), number_.end() - 1);
  found.born_of.assign(born_of_.begin(), born_of_.end() - 1);
  found.born_of[0] = 0;
  for (Node task = 0; task < tasks_.size(); ++task) {
    const auto leader = leads(task) ? into_[task] : leader_[task];
    found.born_into.push_back(leader ? std::optional(number_[*leader]) : std::nullopt);
  }
  return found;
}

Error Tracer::no_way() const {
  const Node task = blamed_.value_or(0);
  const auto& tree = tasks_[task].tree;
  auto error = Error::unsupported(format("no history is found that has it in session {} and below parent {}", tree.sid(), tree.ppid()));
  return of_task(std::move(error), task)
      .remedy("who leads a session must have been an ancestor of all who are in it, and so must parents of their children");
}

Result<Lineage> Tracer::trace() {
  TRY(find_leaders());
  const std::size_t most = std::min(kMostAttempts, kMostLooks / tasks_.size() + 1);
  for (std::size_t i = 0; i < most; ++i) {
    if (attempt()) return lineage();
    if (!think_again()) break;
  }
  return fail(no_way());
}

}  // namespace

Result<Lineage> trace_lineage(const std::vector<ImageTask>& tasks, std::span<const std::size_t> parents) {
  return Tracer(tasks, parents).trace();
}

}  // namespace dormouse::engine
