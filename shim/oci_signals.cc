#include "shim/oci_signals.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>

#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::shim {
namespace {

sigset_t forwarded_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH}) sigaddset(&set, signal);
  return set;
}

}  // namespace

Result<SignalReader> SignalReader::start() {
  const sigset_t signals = forwarded_signals();
  Fd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail(Error::kernel("signalfd", errno));
  sigset_t original;
  if (::sigprocmask(SIG_BLOCK, &signals, &original) < 0) return fail(Error::kernel("sigprocmask", errno));
  return SignalReader(std::move(fd), original);
}

SignalReader::~SignalReader() {
  if (fd_) ::sigprocmask(SIG_SETMASK, &original_, nullptr);
}

int SignalReader::next() const {
  signalfd_siginfo info{};
  return ::read(fd_.get(), &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo) : 0;
}

Result<int> SignalReader::forward_until_end(pid_t pid, Terminal* terminal) {
  const Fd pidfd = TRY(sys::pidfd_open(pid));
  for (;;) {
    std::array<pollfd, 4> files = {pollfd{pidfd.get(), POLLIN, 0}, pollfd{fd_.get(), POLLIN, 0},
                                   terminal ? terminal->poll_input() : pollfd{-1, 0, 0},
                                   terminal ? terminal->poll_master() : pollfd{-1, 0, 0}};
    if (::poll(files.data(), files.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return fail(Error::kernel("poll", errno));
    }
    if (terminal) terminal->copy(files[2], files[3]);
    if (files[1].revents) {
      const int signal = next();
      if (signal == SIGWINCH && terminal)
        terminal->resize();
      else if (signal)
        (void)sys::pidfd_send_signal(pidfd.get(), signal);
    }
    if (!files[0].revents) continue;
    const auto end = TRY(sys::waitid(P_PID, static_cast<id_t>(pid), WEXITED));
    if (!end) continue;
    if (terminal) terminal->drain();
    return end->code == CLD_EXITED ? end->status : 128 + end->status;
  }
}

}  // namespace dormouse::shim
