#include "kernel/watchdog.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "kernel/process.h"

namespace dormouse::sys {

namespace {

void write_words(int file, std::string_view words) { ::syscall(SYS_write, file, words.data(), words.size()); }

// Runs in the child.
[[noreturn]] void watch(int engine_pidfd, int file, Watchdog::LastAct act, std::string_view words) {
  constexpr int kEngine = 0, kFile = 1;
  ::syscall(SYS_setsid);
  std::uint64_t all = ~std::uint64_t{0};
  ::syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, nullptr, sizeof all);
  ::syscall(SYS_chdir, "/");  // keep no mount busy
  // Both numbers may be taken by the other one; the copies above them cannot.
  const long engine_copy = ::syscall(SYS_fcntl, engine_pidfd, F_DUPFD, 2);
  const long file_copy = ::syscall(SYS_fcntl, file, F_DUPFD, 2);
  ::syscall(SYS_dup3, engine_copy, kEngine, 0);
  ::syscall(SYS_dup3, file_copy, kFile, 0);
  ::syscall(SYS_close_range, 2u, ~0u, 0u);
  ::pollfd engine{kEngine, POLLIN, 0};
  while (::syscall(SYS_ppoll, &engine, 1, nullptr, nullptr, 0) != 1) {
  }
  act(kFile, words);
  ::syscall(SYS_exit_group, 0);
  __builtin_unreachable();
}

}  // namespace

Result<Watchdog> Watchdog::start(int file, std::string_view last_words) { return start(file, write_words, last_words); }

Result<Watchdog> Watchdog::start(int file, LastAct act, std::string_view last_words) {
  char words[64];
  const std::size_t size = std::min(last_words.size(), sizeof words - 1);
  std::memcpy(words, last_words.data(), size);

  // Opened before the child exists: it cannot miss our death.
  const Fd engine = TRY(sys::pidfd_open(::getpid()));
  int pidfd = -1;
  abi::CloneArgs args;
  args.flags = CLONE_PIDFD;
  args.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
  // No exit signal: whoever counts the engine's children does not see it.
  const pid_t pid = TRY_OR(sys::clone3(args), std::move(e).during("starting a watchdog"));
  if (pid == 0) watch(engine.get(), file, act, {words, size});
  Watchdog watchdog;
  watchdog.pid_ = pid;
  watchdog.pidfd_ = Fd(pidfd);
  return watchdog;
}

Watchdog& Watchdog::operator=(Watchdog&& other) noexcept {
  if (this != &other) {
    dismiss();
    pid_ = std::exchange(other.pid_, 0);
    pidfd_ = std::move(other.pidfd_);
  }
  return *this;
}

void Watchdog::dismiss() noexcept {
  if (pid_ <= 0) return;
  (void)sys::pidfd_send_signal(pidfd_.get(), SIGKILL);
  (void)sys::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), WEXITED | __WALL);
  pid_ = 0;
  pidfd_.reset();
}

}  // namespace dormouse::sys
