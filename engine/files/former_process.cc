#include "engine/files/former_process.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <span>
#include <utility>

#include "base/format.h"
#include "engine/birth.h"
#include "engine/mounts/mount_table.h"
#include "kernel/file.h"
#include "kernel/process.h"
#include "kernel/socket.h"

namespace dormouse::engine {
namespace {

// In the child, which is a copy of the engine, and only makes system calls: has no descriptor but its end of the
// lifeline, says what became of it, and waits for the other end's end.
[[noreturn]] void live(int lifeline, int root_task) {
  // What is read from its files later is of these: mounts, network.
  const long moved = ::syscall(SYS_setns, root_task, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
  int problem = moved == 0 ? 0 : errno;
  ::syscall(SYS_dup3, lifeline, 0, 0);
  ::syscall(SYS_close_range, 1, ~0u, 0);
  ::syscall(SYS_write, 0, &problem, sizeof problem);
  while (::syscall(SYS_read, 0, &problem, sizeof problem) < 0 && errno == EINTR) {
  }
  ::_exit(0);
}

}  // namespace

FormerProcess::FormerProcess(FormerProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)), lifeline_(std::move(other.lifeline_)) {}

FormerProcess::~FormerProcess() {
  if (pid_ == 0) return;
  lifeline_.reset();
  (void)sys::waitid(P_PID, static_cast<id_t>(pid_), WEXITED);
}

// Born into the pid namespace of the tasks: who was never in it is not gone for them, but somebody else
// (pidfd_send_signal() then says EINVAL instead of ESRCH).
Result<FormerProcess> FormerProcess::create(pid_t number, int root_task) {
  FormerProcess process;
  auto lifeline = TRY(sys::socketpair(AF_UNIX, SOCK_STREAM));
  const Fd own = TRY(sys::openat(AT_FDCWD, "/proc/self/ns/pid", O_RDONLY));
  TRY(sys::setns(root_task, CLONE_NEWPID));
  abi::CloneArgs args;
  args.exit_signal = SIGCHLD;
  if (number != 0) {
    args.set_tid = reinterpret_cast<std::uint64_t>(&number);
    args.set_tid_size = 1;
  }
  const Result<pid_t> pid = sys::clone3(args);
  if (pid && *pid == 0) live(lifeline.other.get(), root_task);
  const Result<> back = sys::setns(own.get(), CLONE_NEWPID);
  if (!pid) return fail(pid.error().is_kernel(EEXIST) ? pid_taken(number) : pid.error());
  process.pid_ = *pid;
  process.lifeline_ = std::move(lifeline.one);
  TRY(back);
  lifeline.other.reset();
  int problem = 0;
  TRY(sys::read_exactly(process.lifeline_.get(), std::as_writable_bytes(std::span(&problem, 1))));
  if (problem != 0) return fail(Error::kernel("setns into the namespaces of the root task", problem));
  return process;
}

void FormerProcesses::note(const std::string& path, pid_t pid) {
  const std::string name = format("/{}", pid);
  for (std::size_t at = path.find(name); at != std::string::npos; at = path.find(name, at + 1)) {
    const std::size_t end = at + name.size();
    if (end != path.size() && path[end] != '/') continue;
    directories_.emplace(path.substr(0, end), pid);
    return;
  }
}

Result<> FormerProcesses::appear_for(const std::string& path, int root_task, const PidLookup& lookup) {
  for (const auto& [directory, pid] : directories_) {
    if (!is_below(path, directory) || living_.contains(pid) || (lookup && lookup(pid) != 0)) continue;
    living_.emplace(pid, TRY(FormerProcess::create(pid, root_task)));
  }
  return {};
}

}  // namespace dormouse::engine
