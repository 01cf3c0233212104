#include "kernel/probes.h"

#include <elf.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/prctl.h>
#include <linux/ptrace.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "base/text.h"
#include "kernel/file.h"
#include "kernel/process.h"
#include "kernel/proc/directory.h"
#include "kernel/ptrace.h"

namespace dormouse::sys::probes {

namespace {

// A child that does nothing, held in a ptrace stop. It dies with us and sends no SIGCHLD, so that a
// caller's own bookkeeping of children is not disturbed.
class HeldChild {
 public:
  HeldChild() {
    auto pid = sys::clone3({});
    if (!pid) return;
    if (*pid == 0) {
      ::syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
      for (;;) ::syscall(SYS_pause);
    }
    pid_ = *pid;
    held_ = sys::ptrace::seize(pid_, PTRACE_O_EXITKILL) && sys::ptrace::interrupt(pid_) &&
            sys::waitid(P_PID, static_cast<id_t>(pid_), WSTOPPED | WEXITED | __WALL);
  }
  HeldChild(const HeldChild&) = delete;
  HeldChild& operator=(const HeldChild&) = delete;
  ~HeldChild() {
    if (pid_ <= 0) return;
    (void)sys::kill(pid_, SIGKILL);  // our own child, not waited for yet: the pid is still its
    (void)sys::waitid(P_PID, static_cast<id_t>(pid_), WEXITED | __WALL);
  }
  explicit operator bool() const { return held_; }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  bool held_ = false;
};

bool exists(const char* path) { return sys::faccessat(AT_FDCWD, path, F_OK).has_value(); }

}  // namespace

bool pidfd_getfd() {
  const auto refused = sys::pidfd_getfd(-1, -1);
  return !refused && refused.error().is_kernel(EBADF) && sys::pidfd_open(::getpid());
}

bool clone3_set_tid() {
  // An older kernel complains of a structure that is longer than it knows (E2BIG); one that knows the
  // field complains of the address.
  abi::CloneArgs args;
  args.set_tid = 1;
  args.set_tid_size = 1;
  const auto refused = sys::clone3(args);
  return !refused && refused.error().is_kernel(EFAULT);
}

bool clone_into_cgroup() {
  abi::CloneArgs args;
  args.flags = abi::kCloneIntoCgroup;
  args.cgroup = 0x7fffffff;  // no such descriptor
  const auto refused = sys::clone3(args);
  return !refused && refused.error().is_kernel(EBADF);
}

bool rseq_configuration() {
  const HeldChild child;
  return child && sys::ptrace::get_rseq_configuration(child.pid());
}

bool suspend_seccomp() {
  const HeldChild child;
  return child &&
         sys::ptrace::setoptions(child.pid(), PTRACE_O_EXITKILL | PTRACE_O_SUSPEND_SECCOMP);
}

bool seccomp_filters() {
  // A child without filters is refused for that reason (EINVAL), not because the request is unknown (EIO).
  const HeldChild child;
  if (!child) return false;
  const auto filter = sys::ptrace::seccomp_get_filter(child.pid(), 0);
  return filter || filter.error().is_kernel(EINVAL) || filter.error().is_kernel(ENOENT);
}

bool hardware_breakpoints() {
#if defined(__x86_64__)
  const HeldChild child;
  if (!child) return false;
  constexpr auto debug_register = [](std::size_t n) {
    return offsetof(struct ::user, u_debugreg) + n * sizeof(long);
  };
  // Address, then "break on execution, enabled".
  return sys::ptrace::pokeuser(child.pid(), debug_register(0), 0x1000) &&
         sys::ptrace::pokeuser(child.pid(), debug_register(7), 1);
#else
  return false;
#endif
}

bool timer_restore_ids() {
  constexpr int kTimerCreateRestoreIds = 77;  // PR_TIMER_CREATE_RESTORE_IDS
  constexpr unsigned long kGet = 2;
  return sys::prctl(kTimerCreateRestoreIds, kGet).has_value();
}

bool kcmp_epoll() {
  const Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  const auto pipe = sys::pipe2();
  if (!epoll || !pipe) return false;
  ::epoll_event event{};
  event.events = EPOLLIN;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, pipe->read_end.get(), &event) != 0) return false;
  const auto number = static_cast<unsigned>(pipe->read_end.get());
  const auto same = sys::kcmp_epoll(::getpid(), number, ::getpid(), static_cast<unsigned>(epoll.get()),
                                    number, 0);
  return same && *same == 0;
}

// 32-bit code: its system calls, its vdso, and a 64-bit process may ask for both (Linux 4.12). A kernel without it
// (CONFIG_IA32_EMULATION, ia32_emulation=off) answers the call with a segmentation fault: a child tries.
bool compat_tasks() {
#if defined(__x86_64__)
  abi::CloneArgs args;
  args.flags = abi::kCloneClearSighand;
  const auto child = sys::clone3(args);
  if (!child) return false;
  if (*child == 0) {
    ::syscall(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);  // no core file
    int pid = 20;                                       // getpid of i386
    asm volatile("int $0x80" : "+a"(pid) : : "r8", "r9", "r10", "r11", "memory");
    constexpr int kMapVdso32 = 0x2002;  // ARCH_MAP_VDSO_32
    const bool mapped = ::syscall(SYS_arch_prctl, kMapVdso32, 0) >= 0 || errno == EEXIST;  // it has the other one
    ::syscall(SYS_exit, pid == ::syscall(SYS_getpid) && mapped ? 0 : 1);
  }
  const auto ended = sys::waitid(P_PID, static_cast<id_t>(*child), WEXITED | __WALL);
  return ended && *ended && (*ended)->code == CLD_EXITED && (*ended)->status == 0;
#else
  return false;
#endif
}

bool user_namespace() {
  // The size of prctl_mm_map: setting it as a whole is what a task in a user namespace may do.
  unsigned size = 0;
  return exists("/proc/self/ns/user") &&
         sys::prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, reinterpret_cast<unsigned long>(&size));
}
bool cgroup_namespace() { return exists("/proc/self/ns/cgroup"); }
bool time_namespace() {
  return exists("/proc/self/ns/time") && exists("/proc/self/timens_offsets");
}
bool ns_pid() {
  const auto self = proc::ProcDir::self();
  if (!self) return false;
  const auto status = self->status();
  return status && !status->ns_pid.empty();
}

bool loginuid() {
  const auto now = sys::read_file(AT_FDCWD, "/proc/self/loginuid");
  return now && sys::write_file(AT_FDCWD, "/proc/self/loginuid", *now);
}

bool apparmor_stacking() {
  const auto stack =
      sys::read_file(AT_FDCWD, "/sys/kernel/security/apparmor/features/domain/stack");
  return stack && trim(*stack) == "yes";
}

}  // namespace dormouse::sys::probes
