// The tree of tasks being dumped, as found in /proc. Values only: who is held, and how, is the
// business of parasite/host and checkpoint.cc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/format.h"

namespace dormouse::engine {

enum class TaskState : std::uint8_t { kAlive, kStopped, kZombie };

struct Thread {
  pid_t tid = 0;     // as the engine sees it
  pid_t ns_tid = 0;  // in the root task's pid namespace: the number in the image
};

// One process (thread group).
struct Task {
  pid_t pid = 0;     // as the engine sees it
  pid_t ns_pid = 0;  // in the root task's pid namespace: the number in the image
  pid_t ns_pgid = 0, ns_sid = 0;
  TaskState state = TaskState::kAlive;
  int exit_code = 0;  // zombies: wait status as in /proc/PID/stat field 52
  int exit_signal = 17;  // what its parent gets when it ends: SIGCHLD, unless clone() was told otherwise; 0: nothing
  std::string comm;
  std::uint32_t umask = 0;
  // The leader has ended while other threads go on: it is a zombie that nobody can collect, and the process is
  // looked at through the first of the others.
  bool leader_ended = false;
  pid_t agent_tid = 0;  // that one; 0: the leader
  int leader_exit_code = 0;
  Fd pidfd;  // of the agent
  Fd proc;   // directory /proc/AGENT
  std::vector<Thread> threads;  // the leader first
  Task* parent = nullptr;       // null for the root
  std::vector<Task*> children;

  // Numbers of kernel objects for ids-PID.img, the same number for the same object (kcmp); 0: none.
  std::uint32_t vm_id = 0, files_id = 0, fs_id = 0, sighand_id = 0;
  // Whether an earlier task in the tree already stands for that object.
  bool owns_files = true, owns_fs = true, owns_vm = true;
  std::vector<const Task*> memory_sharers;  // of the one that owns_vm: the others

  pid_t agent() const { return agent_tid != 0 ? agent_tid : pid; }
  bool alive() const { return state != TaskState::kZombie; }
  // How errors call it: "pid 8 (sh)".
  std::string name() const { return format("pid {} ({})", ns_pid, comm); }
};

struct Tree {
  std::vector<std::unique_ptr<Task>> tasks;  // parents before children; [0] is the root

  Task& root() const { return *tasks.front(); }
  std::uint32_t thread_count() const {
    std::uint32_t count = 0;
    for (const auto& task : tasks) count += static_cast<std::uint32_t>(task->threads.size());
    return count;
  }
};

}  // namespace dormouse::engine
