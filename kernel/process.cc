#include "kernel/process.h"

#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/call.h"

namespace dormouse::sys {

Result<pid_t> clone3(const abi::CloneArgs& args) {
  const long pid = ::syscall(SYS_clone3, &args, sizeof args);
  if (pid == -1) return failed("clone3");
  return static_cast<pid_t>(pid);
}

Result<Fd> pidfd_open(pid_t pid, unsigned flags) {
  return new_fd("pidfd_open", [&] { return ::syscall(SYS_pidfd_open, pid, flags); });
}
Result<Fd> pidfd_getfd(int pidfd, int number) {
  return new_fd("pidfd_getfd", [&] { return ::syscall(SYS_pidfd_getfd, pidfd, number, 0); });
}
Result<> pidfd_send_signal(int pidfd, int signal) {
  return done("pidfd_send_signal",
              [&] { return ::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0); });
}
Result<> process_mrelease(int pidfd) {
  return done("process_mrelease", [&] { return ::syscall(SYS_process_mrelease, pidfd, 0); });
}
Result<> kill(pid_t pid, int signal) {
  return done("kill", [&] { return ::kill(pid, signal); });
}
Result<> tgkill(pid_t tgid, pid_t tid, int signal) {
  return done("tgkill", [&] { return ::syscall(SYS_tgkill, tgid, tid, signal); });
}

Result<std::optional<WaitOutcome>> waitid(int type, id_t id, int options) {
  siginfo_t info{};
  TRY(done("waitid", [&] { return ::waitid(static_cast<idtype_t>(type), id, &info, options); }));
  if (info.si_pid == 0) return std::nullopt;
  return WaitOutcome{info.si_pid, info.si_code, info.si_status};
}

Result<int> kcmp(pid_t one, pid_t other, int type, unsigned long index_one,
                 unsigned long index_other) {
  const long order = retry(
      [&] { return ::syscall(SYS_kcmp, one, other, type, index_one, index_other); });
  if (order == -1) return failed("kcmp");
  return static_cast<int>(order);
}
Result<int> kcmp_epoll(pid_t pid, unsigned fd, pid_t epoll_pid, unsigned epoll_fd, unsigned target_fd,
                       unsigned nth) {
  const ::kcmp_epoll_slot slot{epoll_fd, target_fd, nth};
  return kcmp(pid, epoll_pid, KCMP_EPOLL_TFD, fd, reinterpret_cast<unsigned long>(&slot));
}

Result<int> prctl(int operation, unsigned long a, unsigned long b, unsigned long c,
                  unsigned long d) {
  return value("prctl", [&] { return ::prctl(operation, a, b, c, d); });
}

namespace {

// process_vm_readv and its twin stop early at an unreadable page without saying why; the next call,
// which begins there, does.
Result<> transfer(const char* operation, long number, pid_t pid, std::uint64_t address,
                  std::byte* local, std::size_t size) {
  while (size > 0) {
    const ::iovec here{local, size};
    const ::iovec there{reinterpret_cast<void*>(address), size};
    const long moved = retry([&] { return ::syscall(number, pid, &here, 1, &there, 1, 0); });
    if (moved == -1) return failed(operation);
    if (moved == 0) {
      errno = EFAULT;
      return failed(operation);
    }
    local += moved;
    address += static_cast<std::uint64_t>(moved);
    size -= static_cast<std::size_t>(moved);
  }
  return {};
}

}  // namespace

Result<> process_vm_read(pid_t pid, std::uint64_t address, std::span<std::byte> to) {
  return transfer("process_vm_readv", SYS_process_vm_readv, pid, address, to.data(), to.size());
}
Result<> process_vm_write(pid_t pid, std::uint64_t address, std::span<const std::byte> from) {
  return transfer("process_vm_writev", SYS_process_vm_writev, pid, address,
                  const_cast<std::byte*>(from.data()), from.size());
}

Result<> setns(int fd, int type) {
  return done("setns", [&] { return ::setns(fd, type); });
}
Result<> unshare(int flags) {
  return done("unshare", [&] { return ::unshare(flags); });
}
Result<> close_range(unsigned first, unsigned last, unsigned flags) {
  return done("close_range", [&] { return ::syscall(SYS_close_range, first, last, flags); });
}

Result<RobustList> get_robust_list(pid_t tid) {
  void* head = nullptr;
  RobustList list;
  TRY(done("get_robust_list", [&] { return ::syscall(SYS_get_robust_list, tid, &head, &list.length); }));
  list.head = reinterpret_cast<std::uint64_t>(head);
  return list;
}
Result<abi::SchedAttr> sched_getattr(pid_t tid) {
  abi::SchedAttr attr;
  TRY(done("sched_getattr", [&] { return ::syscall(SYS_sched_getattr, tid, &attr, sizeof attr, 0); }));
  return attr;
}
Result<int> membarrier(int command) {
  const long answer = TRY(value("membarrier", [&] { return ::syscall(SYS_membarrier, command, 0, 0); }));
  return static_cast<int>(answer);
}

Result<::rlimit> getrlimit(pid_t pid, int resource) {
  ::rlimit limit{};
  TRY(done("prlimit", [&] {
    return ::prlimit(pid, static_cast<__rlimit_resource>(resource), nullptr, &limit);
  }));
  return limit;
}
Result<> setrlimit(pid_t pid, int resource, const ::rlimit& limit) {
  return done("prlimit", [&] {
    return ::prlimit(pid, static_cast<__rlimit_resource>(resource), &limit, nullptr);
  });
}

}  // namespace dormouse::sys
