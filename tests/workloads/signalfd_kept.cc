#include <signal.h>
#include <sys/signalfd.h>

#include "tests/workloads/workload.h"

WORKLOAD("a signalfd keeps its mask and delivers what was pending") {
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGRTMIN + 1);
  sigaddset(&mask, SIGHUP);
  MUST(sigprocmask(SIG_BLOCK, &mask, nullptr));
  const int fd = MUST(signalfd(-1, &mask, SFD_NONBLOCK));
  MUST(sigqueue(getpid(), SIGRTMIN + 1, {.sival_int = 31}));
  workload::checkpoint_here();
  signalfd_siginfo info{};
  CHECK_EQ(MUST(read(fd, &info, sizeof info)), static_cast<ssize_t>(sizeof info));
  CHECK_EQ(info.ssi_signo, static_cast<uint32_t>(SIGRTMIN + 1));
  CHECK_EQ(info.ssi_int, 31);
  MUST(raise(SIGHUP));
  MUST(read(fd, &info, sizeof info));
  CHECK_EQ(info.ssi_signo, static_cast<uint32_t>(SIGHUP));
}
