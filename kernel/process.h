// System calls on processes, threads, namespaces and limits.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/error.h"
#include "base/fd.h"
#include "kernel/abi.h"

namespace dormouse::sys {

// Returns 0 in the child. Without `stack` the child runs on a copy of the caller's, like fork(), but no
// handlers of the C library run: the child may only make system calls.
Result<pid_t> clone3(const abi::CloneArgs& args);

Result<Fd> pidfd_open(pid_t pid, unsigned flags = 0);
// A duplicate of descriptor `number` of that process (Linux 5.6).
Result<Fd> pidfd_getfd(int pidfd, int number);
[[nodiscard]] Result<> pidfd_send_signal(int pidfd, int signal);
// Frees memory of a process that SIGKILL was sent to, beside the process's own end, and returns when that is done
// (Linux 5.15). EINVAL: it lives.
[[nodiscard]] Result<> process_mrelease(int pidfd);
[[nodiscard]] Result<> kill(pid_t pid, int signal);
[[nodiscard]] Result<> tgkill(pid_t tgid, pid_t tid, int signal);

struct WaitOutcome {
  pid_t pid = 0;
  int code = 0;    // CLD_EXITED, CLD_KILLED, CLD_DUMPED, CLD_STOPPED, CLD_TRAPPED, CLD_CONTINUED
  int status = 0;  // exit status or signal; for a ptrace stop signal | event << 8
};
// `type`: P_PID, P_PIDFD, P_ALL, …; nothing with WNOHANG if nothing happened yet.
Result<std::optional<WaitOutcome>> waitid(int type, id_t id, int options);

// 0: the same kernel object; 1, 2: different, and an order for sorting; `type`: KCMP_*.
Result<int> kcmp(pid_t one, pid_t other, int type, unsigned long index_one, unsigned long index_other);
// KCMP_EPOLL_TFD: is the open file behind descriptor `fd` of `pid` the one that epoll descriptor
// `epoll_fd` of `epoll_pid` watches under number `target_fd` (`nth` of that number)?
Result<int> kcmp_epoll(pid_t pid, unsigned fd, pid_t epoll_pid, unsigned epoll_fd, unsigned target_fd,
                       unsigned nth);

Result<int> prctl(int operation, unsigned long a = 0, unsigned long b = 0, unsigned long c = 0,
                  unsigned long d = 0);

// Another process's memory. Less than all of it: EFAULT in the middle is an error.
[[nodiscard]] Result<> process_vm_read(pid_t pid, std::uint64_t address, std::span<std::byte> to);
[[nodiscard]] Result<> process_vm_write(pid_t pid, std::uint64_t address,
                                        std::span<const std::byte> from);

// `type`: CLONE_NEW* that the descriptor must be, or 0; for a pidfd the set of namespaces to enter.
[[nodiscard]] Result<> setns(int fd, int type);
[[nodiscard]] Result<> unshare(int flags);
[[nodiscard]] Result<> close_range(unsigned first, unsigned last, unsigned flags = 0);

// Head and length of the thread's robust futex list; address 0: none.
struct RobustList {
  std::uint64_t head = 0;
  std::size_t length = 0;
};
Result<RobustList> get_robust_list(pid_t tid);
// Policy, flags (SCHED_FLAG_RESET_ON_FORK), nice value and priority of a thread; 0: the caller.
Result<abi::SchedAttr> sched_getattr(pid_t tid);
// MEMBARRIER_CMD_*; EINVAL: this kernel lacks the command.
Result<int> membarrier(int command);

// `pid` 0: the caller. Reading another's limits needs its credentials or CAP_SYS_RESOURCE;
// /proc/PID/limits does not (kernel/proc/limits.h).
Result<::rlimit> getrlimit(pid_t pid, int resource);
[[nodiscard]] Result<> setrlimit(pid_t pid, int resource, const ::rlimit& limit);

}  // namespace dormouse::sys
