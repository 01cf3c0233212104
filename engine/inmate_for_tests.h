// For tests: a process in namespaces of its own, made, watched and killed by the test. Takes root.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>

#include "base/format.h"
#include "engine/tree.h"
#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::engine {

// Does `work` in new namespaces `flags` (CLONE_NEW*), says how it went, and then waits to be killed.
class Inmate {
 public:
  // `id_map`: for CLONE_NEWUSER, both maps as written to the kernel; the inmate is its root then. `before`: what it does
  // as nobody, before that.
  Inmate(std::uint64_t flags, const std::function<Result<>()>& work, const std::string& id_map = "",
         const std::function<Result<>()>& before = [] { return Result<>{}; }) {
    auto pipe = *sys::pipe2();
    auto mapped = *sys::pipe2();
    int pidfd = -1;
    pid_ = *sys::clone3({.flags = flags | CLONE_PIDFD,
                         .pidfd = reinterpret_cast<std::uint64_t>(&pidfd),
                         .exit_signal = SIGCHLD});
    if (pid_ == 0) {
      mapped.write_end.reset();
      (void)sys::read_all(mapped.read_end.get());
      Result<> outcome = before();
      if (!id_map.empty() && (::setgid(0) || ::setuid(0))) ::_exit(1);
      if (outcome) outcome = work();
      (void)sys::write_all(pipe.write_end.get(), outcome ? "ok" : outcome.error().message());
      pipe.write_end.reset();
      for (;;) ::pause();
    }
    pidfd_ = Fd(pidfd);
    for (const char* file : {"uid_map", "gid_map"})
      if (!id_map.empty()) (void)sys::write_file(AT_FDCWD, format("/proc/{}/{}", pid_, file), id_map);
    mapped.write_end.reset();
    pipe.write_end.reset();
    said_ = *sys::read_all(pipe.read_end.get());
  }
  ~Inmate() {
    (void)sys::pidfd_send_signal(pidfd_.get(), SIGKILL);
    (void)sys::waitid(P_PID, static_cast<id_t>(pid_), WEXITED);
  }
  Inmate(const Inmate&) = delete;
  Inmate& operator=(const Inmate&) = delete;

  pid_t pid() const { return pid_; }
  // "ok", or the message of the failure.
  const std::string& said() const { return said_; }
  // A file of its /proc/PID.
  std::string read(const std::string& name) const {
    return sys::read_file(AT_FDCWD, format("/proc/{}/{}", pid_, name)).value_or("(missing)");
  }
  Tree tree() const {
    Tree tree;
    auto task = std::make_unique<Task>();
    task->pid = pid_;
    task->ns_pid = 1;
    task->comm = "inmate";
    task->pidfd = *sys::duplicate(pidfd_.get());
    task->proc = *sys::openat(AT_FDCWD, format("/proc/{}", pid_), O_RDONLY | O_DIRECTORY);
    tree.tasks.push_back(std::move(task));
    return tree;
  }

 private:
  pid_t pid_ = 0;
  Fd pidfd_;
  std::string said_;
};

}  // namespace dormouse::engine
