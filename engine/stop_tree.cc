#include "engine/stop_tree.h"

#include <fcntl.h>
#include <linux/kcmp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>

#include "base/format.h"
#include "base/parallel.h"
#include "base/signals.h"
#include "kernel/process.h"

namespace dormouse::engine {
namespace {

constexpr unsigned kPidfdThread = O_EXCL;  // PIDFD_THREAD, Linux 6.9

Error name_tracer(Error error, const proc::ProcDir& dir) {
  const auto status = dir.status();
  if (!status || status->tracer_pid == 0) return error;
  return std::move(error).during(format("it is traced by process {}", status->tracer_pid));
}

bool is_gone(const Error& error) {
  return error.kind() == Error::Kind::kTaskDied || error.is_kernel(ESRCH) || error.is_kernel(ENOENT);
}

}  // namespace

// False: it is already known, or gone.
Result<bool> TreeStopper::add_process(pid_t pid, Task* parent) {
  if (known_.contains(pid)) return false;
  auto dir = proc::ProcDir::open(pid);
  if (!dir) {
    if (parent && is_gone(dir.error())) return false;
    return fail(std::move(dir).error().object(format("task {}", pid)).remedy("is the pid right?"));
  }
  // A child may end at any moment until it is stopped.
  const auto gone_or = [parent](Error error) {
    return parent && is_gone(error) ? Result<bool>(false) : fail(std::move(error));
  };
  const auto status = dir->status();
  if (!status) return gone_or(status.error());
  if (status->kernel_thread)
    return fail(Error::bad_option("a kernel thread cannot be checkpointed").object(format("task {}", pid)));
  auto task = std::make_unique<Task>();
  task->pid = pid;
  task->comm = status->name;
  task->ns_pid = status->ns_pid.back();
  task->parent = parent;
  auto proc = sys::openat(AT_FDCWD, format("/proc/{}", pid), O_RDONLY | O_DIRECTORY);
  if (!proc) return gone_or(proc.error());
  auto pidfd = sys::pidfd_open(pid);
  if (!pidfd) return gone_or(pidfd.error());
  task->proc = std::move(*proc);
  task->pidfd = std::move(*pidfd);
  // A leader that ended before its other threads is one too, but the process is not.
  if ((status->state == 'Z' || status->state == 'X') && status->threads <= 1) task->state = TaskState::kZombie;
  if (parent) parent->children.push_back(task.get());
  known_.insert(pid);
  auto held = task->alive()
                  ? std::make_unique<parasite::HeldProcess>(keeper_, log_, pid, task->name())
                  : nullptr;
  stopped_.tree.tasks.push_back(std::move(task));
  stopped_.dirs.emplace_back(std::move(*dir));
  stopped_.held.push_back(std::move(held));
  return true;
}

Result<bool> TreeStopper::seize_new_threads(std::size_t index) {
  if (!stopped_.held[index]) return false;
  auto& held = *stopped_.held[index];
  const AllSignalsBlocked quiet;  // each thread that stops would interrupt this
  bool any = false;
  for (bool again = true; again;) {
    again = false;
    const auto tids = stopped_.dirs[index]->threads();
    if (!tids) return is_gone(tids.error()) ? Result<bool>(any) : fail(tids.error());
    for (const pid_t tid : *tids) {
      if (held.holds(tid)) continue;
      Result<bool> seized = held.seize(tid);
      if (!seized) return fail(name_tracer(std::move(seized).error(), *stopped_.dirs[index]));
      again = *seized || again;
    }
    any = any || again;
  }
  return any;
}

Result<bool> TreeStopper::add_new_children(std::size_t index) {
  const auto children = stopped_.dirs[index]->children();
  if (!children) return is_gone(children.error()) ? Result<bool>(false) : fail(children.error());
  bool any = false;
  for (const pid_t child : *children)
    any = TRY(add_process(child, stopped_.tree.tasks[index].get())) || any;
  return any;
}

// Whether there is more to wait for.
Result<bool> TreeStopper::look_again(Children children) {
  bool any = false;
  // The list grows while it is walked.
  for (std::size_t i = 0; i < stopped_.tree.tasks.size(); ++i) {
    if (!stopped_.held[i]) continue;
    any = TRY(seize_new_threads(i)) || any;
    // What it makes until it has stopped has to be asked for then, in any case.
    if (children == Children::kOfStopped && !stopped_.held[i]->stopped()) continue;
    any = TRY(add_new_children(i)) || any;
  }
  return any;
}

Result<> TreeStopper::seize(pid_t root) {
  TRY(add_process(root, nullptr));
  if (!stopped_.tree.root().alive())
    return fail(Error::task_died("it is a zombie").object(format("task {}", root)));
  TRY(look_again(Children::kOfStopped));
  return {};
}

// A process in vfork() sleeps uninterruptibly until its child, which runs in its memory, has executed a
// program; and the child has been stopped before it could.
Result<> TreeStopper::wait_one(std::size_t index, parasite::Deadline deadline) {
  constexpr auto kUsual = std::chrono::milliseconds(50);
  Result<> waited = stopped_.held[index]->wait_stopped(std::min(deadline, parasite::within(kUsual)));
  if (waited || !waited.error().is_kernel(ETIMEDOUT)) return waited;
  TRY(look_again(Children::kOfAll));
  for (const Task* child : stopped_.tree.tasks[index]->children) {
    const auto same = sys::kcmp(stopped_.tree.tasks[index]->pid, child->pid, KCMP_VM, 0, 0);
    for (std::size_t i = 0; same && *same == 0 && i < stopped_.tree.tasks.size(); ++i) {
      if (stopped_.tree.tasks[i].get() != child || !stopped_.held[i]) continue;
      TRY(stopped_.held[i]->wait_stopped(deadline));
      const Result<> ran = stopped_.held[i]->run_to_exec(deadline);
      if (!ran && ran.error().is_kernel(ETIMEDOUT))
        return fail(Error::unsupported(format("waits in vfork() for process {}, which runs in its memory", child->pid))
                        .object("main thread").owner(stopped_.tree.tasks[index]->name())
                        .remedy("try again when that process has executed its program, or raise --timeout"));
      if (!ran && !is_gone(ran.error())) return ran;
    }
  }
  return stopped_.held[index]->wait_stopped(deadline);
}

Result<> TreeStopper::wait_all(parasite::Deadline deadline) {
  for (std::size_t i = 0; i < stopped_.held.size(); ++i) {
    if (!stopped_.held[i]) continue;
    // Without a thread that could be seized it ended before.
    Result<> waited = stopped_.held[i]->threads().empty()
                          ? Result<>(fail(Error::task_died("it has ended").owner(stopped_.tree.tasks[i]->name())))
                          : wait_one(i, deadline);
    if (waited) continue;
    // A child that ended meanwhile is a zombie now, which is a state like any other.
    if (i == 0 || !is_gone(waited.error())) return waited;
    stopped_.held[i].reset();
    stopped_.tree.tasks[i]->state = TaskState::kZombie;
  }
  return {};
}

// Children that ended and were collected by their parent before it stopped.
void TreeStopper::drop_dead() {
  auto& tasks = stopped_.tree.tasks;
  for (std::size_t i = tasks.size(); i-- > 1;) {
    if (tasks[i]->alive() || stopped_.dirs[i]->status()) continue;
    std::erase(tasks[i]->parent->children, tasks[i].get());
    known_.erase(tasks[i]->pid);
    const auto at = static_cast<std::ptrdiff_t>(i);
    tasks.erase(tasks.begin() + at);
    stopped_.dirs.erase(stopped_.dirs.begin() + at);
    stopped_.held.erase(stopped_.held.begin() + at);
  }
}

Result<StoppedTree> TreeStopper::settle(std::chrono::milliseconds timeout) {
  const parasite::Deadline deadline = parasite::within(timeout);
  do {
    TRY(wait_all(deadline));
  } while (TRY(look_again(Children::kOfStopped)));
  drop_dead();
  TRY(describe());
  return std::move(stopped_);
}

// The leader has ended, and has neither memory nor descriptors any more.
Result<> TreeStopper::look_through(std::size_t index, pid_t tid) {
  Task& task = *stopped_.tree.tasks[index];
  task.leader_ended = true;
  task.agent_tid = tid;
  task.threads.push_back({task.pid, task.ns_pid});
  const auto look = [&]() -> Result<> {
    task.proc = TRY(sys::openat(AT_FDCWD, format("/proc/{}", tid), O_RDONLY | O_DIRECTORY));
    task.pidfd = TRY(sys::pidfd_open(tid, kPidfdThread));
    stopped_.dirs[index] = TRY(proc::ProcDir::open(tid));
    return {};
  };
  TRY_OR(look(), std::move(e).during("its main thread has ended").owner(task.name()));
  return {};
}

// Numbers as the root task's pid namespace shows them.
Result<> TreeStopper::describe() {
  const auto root = TRY(stopped_.dirs[0]->status());
  return in_parallel(stopped_.tree.tasks.size(), [&](std::size_t i) { return describe(i, root.ns_pid.size() - 1); });
}

// `level`: the root's pid namespace, counted from the engine's. Touches nothing but what is that task's.
Result<> TreeStopper::describe(std::size_t index, std::size_t level) {
  Task& task = *stopped_.tree.tasks[index];
  const auto status = TRY_OR(stopped_.dirs[index]->status(), std::move(e).owner(task.name()));
  if (status.ns_pid.size() != level + 1)
    return fail(Error::unsupported("it lives in a pid namespace of its own inside the tree")
                    .owner(task.name())
                    .remedy("only one pid namespace per container is supported"));
  task.ns_pid = status.ns_pid[level];
  task.ns_pgid = status.ns_pgid[level];
  task.ns_sid = status.ns_sid[level];
  task.comm = status.name;
  task.umask = status.umask;
  const auto stat = TRY_OR(stopped_.dirs[index]->stat(), std::move(e).owner(task.name()));
  task.exit_signal = stat.exit_signal;
  task.leader_exit_code = stat.exit_code;
  if (!task.alive()) {
    task.exit_code = stat.exit_code;
    task.threads.push_back({task.pid, task.ns_pid});
    return {};
  }
  const auto& threads = stopped_.held[index]->threads();
  if (threads.front()->tid() != task.pid) TRY(look_through(index, threads.front()->tid()));
  for (const auto& thread : threads) {
    pid_t ns_tid = task.ns_pid;
    // Where the tree has the engine's pid namespace the numbers are the same.
    if (level == 0) ns_tid = thread->tid();
    else if (thread->tid() != task.pid) {
      const auto dir = TRY(stopped_.dirs[index]->thread(thread->tid()));
      ns_tid = TRY(dir.status()).ns_pid[level];
    }
    task.threads.push_back({thread->tid(), ns_tid});
    if (thread->stop_signal() != 0) task.state = TaskState::kStopped;
  }
  return {};
}

namespace {

// Sorted by kcmp's own order, so that each task is compared with few others.
class Numbering {
 public:
  // 1 is the engine's own, as the reference has it.
  explicit Numbering(int type) : type_(type) {}

  Result<std::uint32_t> number(const Task& task, bool* first) {
    std::size_t low = 0, high = known_.size();
    while (low < high) {
      const std::size_t middle = (low + high) / 2;
      const int order = TRY(sys::kcmp(task.agent(), known_[middle].pid, type_, 0, 0));
      if (order == 0) {
        *first = false;
        return known_[middle].id;
      }
      if (order == 1)
        high = middle;
      else
        low = middle + 1;
    }
    *first = true;
    known_.insert(known_.begin() + static_cast<std::ptrdiff_t>(low), {task.agent(), next_});
    return next_++;
  }

 private:
  struct Known {
    pid_t pid;
    std::uint32_t id;
  };
  int type_;
  std::uint32_t next_ = 2;
  std::vector<Known> known_;
};

}  // namespace

Result<> identify_shared(Tree& tree) {
  struct Kind {
    int type;
    std::uint32_t Task::*id;
    bool Task::*owns;  // null: nobody asks
  };
  static constexpr std::array kKinds{Kind{KCMP_VM, &Task::vm_id, &Task::owns_vm}, Kind{KCMP_FILES, &Task::files_id, &Task::owns_files},
                                     Kind{KCMP_FS, &Task::fs_id, &Task::owns_fs}, Kind{KCMP_SIGHAND, &Task::sighand_id, nullptr}};
  TRY(in_parallel(kKinds.size(), [&](std::size_t i) -> Result<> {
    Numbering numbering(kKinds[i].type);
    for (const auto& task : tree.tasks) {
      if (!task->alive()) continue;
      bool owns = false;
      (*task).*kKinds[i].id = TRY_OR(numbering.number(*task, kKinds[i].owns ? &((*task).*kKinds[i].owns) : &owns),
                                     std::move(e).owner(task->name()));
    }
    return {};
  }, tree.tasks.size() < 16 ? kKinds.size() : 1));

  std::map<std::uint32_t, Task*> owners;  // of address spaces
  for (const auto& task : tree.tasks) {
    if (!task->alive()) continue;
    Task*& owner = owners.try_emplace(task->vm_id, task.get()).first->second;
    if (owner != task.get()) owner->memory_sharers.push_back(task.get());
  }
  return {};
}

}  // namespace dormouse::engine
