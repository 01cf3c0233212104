#include "engine/plan/groups.h"

#include <signal.h>

#include <map>
#include <set>

#include "base/format.h"

namespace dormouse::engine {
namespace {

Error of_task(Error error, const ImageTask& task) {
  return std::move(error).object(format("task {} ({})", task.tree.pid(), task.core.tc().comm()));
}

bool leads_session(const ImageTask& task) { return task.tree.sid() == task.tree.pid(); }

// Who leads a group, by the group's number: what joining it depends on.
struct Leader {
  std::uint32_t sid = 0;
  bool stands_in = false;
};

class Groups {
 public:
  Groups(const Image& image, Family& family) : tasks_(image.tasks), family_(family) {}

  Result<> plan() {
    for (const ImageTask& task : tasks_) {
      leaders_[task.tree.pid()] = {task.tree.sid(), false};
      first_of_session_.emplace(task.tree.sid(), &task - tasks_.data());
    }
    for (const StandIn& stand_in : family_.stand_ins) leaders_[stand_in.pid] = {stand_in.pid, true};
    for (const ImageTask& task : tasks_) used_.insert(task.tree.pgid());
    for (std::size_t i = 0; i < tasks_.size(); ++i) TRY(place(i));
    return {};
  }

 private:
  // The group everybody of the root's session is born into comes from outside, if the session does.
  bool is_outside_group(const ImageTask& task) const {
    const ImageTask& root = tasks_.front();
    if (leads_session(root) || task.tree.sid() != root.tree.sid()) return task.tree.pgid() == 0 && task.tree.sid() == 0;
    return task.tree.pgid() == 0 || (task.tree.pgid() == root.tree.pgid() && !leaders_.contains(task.tree.pgid()));
  }

  Result<> place(std::size_t i) {
    const ImageTask& task = tasks_[i];
    FamilyMember& member = family_.members[i];
    const std::uint32_t pid = task.tree.pid(), pgid = task.tree.pgid(), sid = task.tree.sid();
    if (leads_session(task)) {
      if (pgid == pid) return {};
      return fail(of_task(Error::corrupt(format("leads a session but not its process group, which is {}", pgid)), task).owner("the image"));
    }
    member.makes_group = used_.contains(pid);
    if (pgid == pid || (pgid == sid && leaders_.contains(sid)) || is_outside_group(task)) return {};
    if (pgid == 0 || pgid > 1 << 22)
      return fail(of_task(Error::corrupt(format("process group {} is impossible", pgid)), task).owner("the image"));
    member.joins_group = true;
    auto leader = leaders_.find(pgid);
    if (leader == leaders_.end()) {
      family_.stand_ins.push_back({pgid, false, first_of_session_.at(sid)});
      leader = leaders_.emplace(pgid, Leader{sid, true}).first;
    }
    if (leader->second.sid == sid) return {};
    return fail(of_task(Error::corrupt(format("its process group {} is in another session", pgid)), task).owner("the image"));
  }

  const std::vector<ImageTask>& tasks_;
  Family& family_;
  std::map<std::uint32_t, Leader> leaders_;
  std::map<std::uint32_t, std::size_t> first_of_session_;
  std::set<std::uint32_t> used_;
};

}  // namespace

namespace {

// Kernel: a group is orphaned when no member has a parent in another group of the same session.
bool is_orphaned(const Image& image, std::uint32_t pgid) {
  std::map<std::uint32_t, const ImageTask*> by_pid;
  for (const ImageTask& task : image.tasks) by_pid[task.tree.pid()] = &task;
  for (const ImageTask& task : image.tasks) {
    const auto parent = by_pid.find(task.tree.ppid());
    if (task.tree.pgid() != pgid || !task.alive() || parent == by_pid.end()) continue;
    if (parent->second->tree.pgid() != pgid && parent->second->tree.sid() == task.tree.sid()) return false;
  }
  return true;
}

bool has_default_action(const ImageTask& task, int signal) {
  const int index = signal - 1 - (signal > SIGKILL) - (signal > SIGSTOP);  // those two have no entry
  const auto& actions = task.core.tc().sigactions();
  return index < actions.size() && actions.Get(index).sigaction() == 0;
}

bool some_thread_takes(const ImageTask& task, int signal) {
  const std::uint64_t bit = std::uint64_t{1} << (signal - 1);
  if (!(task.core.tc().blk_sigset() & bit)) return true;
  for (const auto& [tid, core] : task.thread_cores)
    if (!(core.thread_core().blk_sigset() & bit)) return true;
  return false;
}

}  // namespace

int stop_signal_of(const Image& image, const ImageTask& task) {
  const auto signal = static_cast<int>(task.core.tc().stop_signo());
  if (signal != SIGTSTP && signal != SIGTTIN && signal != SIGTTOU) return SIGSTOP;
  const bool stops = has_default_action(task, signal) && some_thread_takes(task, signal) && !is_orphaned(image, task.tree.pgid());
  return stops ? signal : SIGSTOP;
}

Result<> plan_groups(const Image& image, Family& family) { return Groups(image, family).plan(); }

}  // namespace dormouse::engine
