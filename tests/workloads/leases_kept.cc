// driver: --option=--file-locks
#include <fcntl.h>
#include <signal.h>

#include "tests/workloads/workload.h"

namespace {
int file_of(const char* name, int flags) {
  MUST(close(MUST(open(name, O_RDWR | O_CREAT, 0644))));
  return MUST(open(name, flags | O_CLOEXEC));
}
int lease(const char* name, int flags, int type) {
  const int fd = file_of(name, flags);
  if (fcntl(fd, F_SETLEASE, type) < 0 && errno == EINVAL) workload::skip("this file system has no leases");
  CHECK_EQ(MUST(fcntl(fd, F_GETLEASE)), type);
  MUST(fcntl(fd, F_SETSIG, SIGRTMIN));
  return fd;
}
// True: the holder is told, and we are not let in.
bool breaks(const char* name, int flags) {
  const int fd = open(name, flags | O_NONBLOCK);
  if (fd >= 0) close(fd);
  return fd < 0 && errno == EWOULDBLOCK;
}
// The descriptor that a signal is about, or -1: there is none.
int told() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  siginfo_t info;
  const timespec now{};
  return sigtimedwait(&set, &info, &now) == SIGRTMIN ? info.si_fd : -1;
}
}  // namespace

WORKLOAD("leases on files stay, and who broke one before the checkpoint is still waited for") {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  MUST(sigprocmask(SIG_BLOCK, &set, nullptr));
  const int read = lease("read", O_RDONLY, F_RDLCK), write = lease("write", O_RDWR, F_WRLCK);
  const int lost = lease("lost", O_RDWR, F_WRLCK), lowered = lease("lowered", O_RDONLY, F_WRLCK);
  const int lost_read = lease("lost_read", O_RDONLY, F_RDLCK);
  CHECK(breaks("lost", O_WRONLY));
  CHECK_EQ(told(), lost);
  CHECK(breaks("lowered", O_RDONLY));
  CHECK_EQ(told(), lowered);
  CHECK(breaks("lost_read", O_WRONLY));
  workload::checkpoint_here();
  CHECK_EQ(told(), lost_read);  // it was told, and had not yet heard
  CHECK_EQ(told(), -1);         // of nothing else
  CHECK_EQ(MUST(fcntl(read, F_GETLEASE)), F_RDLCK);
  CHECK_EQ(MUST(fcntl(write, F_GETLEASE)), F_WRLCK);
  CHECK_EQ(MUST(fcntl(lost, F_GETLEASE)), F_UNLCK);
  CHECK_EQ(MUST(fcntl(lowered, F_GETLEASE)), F_RDLCK);
  CHECK_EQ(MUST(fcntl(lost_read, F_GETLEASE)), F_UNLCK);
  CHECK(breaks("lost", O_RDONLY));
  CHECK_EQ(told(), -1);  // not told twice
  CHECK(!breaks("lost_read", O_RDONLY));
  CHECK(!breaks("read", O_RDONLY));
  CHECK(breaks("read", O_WRONLY));
  CHECK_EQ(told(), read);
  CHECK(breaks("write", O_RDONLY));
  CHECK_EQ(told(), write);
  for (const int fd : {read, write, lost, lost_read}) MUST(fcntl(fd, F_SETLEASE, F_UNLCK));
  MUST(fcntl(lowered, F_SETLEASE, F_RDLCK));
  CHECK(!breaks("lowered", O_RDONLY));
  CHECK(!breaks("write", O_RDONLY));
}
