#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

namespace {
constexpr unsigned kThread = O_EXCL;  // PIDFD_THREAD
sem_t g_started, g_go;
pid_t g_tid;

int pidfd(pid_t pid, unsigned flags = 0) { return static_cast<int>(MUST(syscall(SYS_pidfd_open, pid, flags))); }
long send(int fd, int signal) { return syscall(SYS_pidfd_send_signal, fd, signal, nullptr, 0); }
bool ended(int fd) {
  pollfd wait{fd, POLLIN, 0};
  return MUST(poll(&wait, 1, 0)) == 1;
}
uint64_t inode(int fd) {
  struct stat status{};
  MUST(fstat(fd, &status));
  return status.st_ino;
}
// The process as /proc says it: its number, or -1.
int pid_of(int fd) {
  char path[64], line[128];
  snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
  FILE* const file = MUST(fopen(path, "re"));
  int pid = -2;
  while (fgets(line, sizeof line, file) != nullptr) (void)sscanf(line, "Pid: %d", &pid);
  fclose(file);
  return pid;
}
int pidfd_of_dead(int* second) {
  const pid_t pid = MUST(fork());
  if (pid == 0) _exit(3);
  const int fd = pidfd(pid);
  *second = pidfd(pid, O_NONBLOCK);
  CHECK_EQ(MUST(waitpid(pid, nullptr, 0)), pid);
  return fd;
}
void* thread(void*) {
  g_tid = static_cast<pid_t>(syscall(SYS_gettid));
  sem_post(&g_started);
  while (sem_wait(&g_go) != 0) {
  }
  return nullptr;
}
}  // namespace

WORKLOAD("descriptors of processes and threads are of the same ones, those that are gone too") {
  sem_init(&g_started, 0, 0);
  sem_init(&g_go, 0, 0);
  pthread_t other;
  CHECK_EQ(pthread_create(&other, nullptr, thread, nullptr), 0);
  MUST(sem_wait(&g_started));
  int one_again = -1, another_again = -1;
  const int self = pidfd(getpid());
  const int one = pidfd_of_dead(&one_again), another = pidfd_of_dead(&another_again);
  // PIDFD_THREAD is known since Linux 6.9.
  const int of_thread = static_cast<int>(syscall(SYS_pidfd_open, g_tid, kThread));
  const bool inodes_differ = inode(one) != inode(another);
  const pid_t child = workload::fork_child([=] {
    const int parent = pidfd(getppid(), O_NONBLOCK);
    MUST(fcntl(self, F_SETFD, FD_CLOEXEC));
    workload::checkpoint_here();
    MUST(send(parent, 0));
    CHECK_EQ(pid_of(parent), getppid());
    CHECK_EQ(pid_of(self), getppid());
    CHECK(ended(one));
  });
  const int of_child = pidfd(child), of_child_again = pidfd(child), twin = dup(of_child);
  workload::checkpoint_here();
  CHECK_EQ(pid_of(self), getpid());
  CHECK_EQ(pid_of(of_child), child);
  CHECK_EQ(pid_of(of_child_again), child);
  CHECK_EQ(pid_of(twin), child);
  CHECK(!ended(of_child));
  for (const int fd : {one, one_again, another, another_again}) {
    CHECK_EQ(pid_of(fd), -1);
    CHECK(ended(fd));
    CHECK_EQ(send(fd, 0), -1L);
    CHECK_EQ(errno, ESRCH);
  }
  CHECK_EQ(fcntl(one_again, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  if (inodes_differ) {
    CHECK_EQ(inode(one), inode(one_again));
    CHECK(inode(one) != inode(another));
    CHECK_EQ(inode(of_child), inode(of_child_again));
  }
  workload::join(child);
  CHECK(ended(of_child));
  CHECK(ended(twin));
  if (of_thread >= 0) {
    CHECK_EQ(pid_of(of_thread), g_tid);
    CHECK(!ended(of_thread));
  }
  sem_post(&g_go);
  CHECK_EQ(pthread_join(other, nullptr), 0);
  // A thread that was joined may still be on its way out.
  if (of_thread >= 0) {
    pollfd wait{of_thread, POLLIN, 0};
    CHECK_EQ(MUST(poll(&wait, 1, 5000)), 1);
  }
  CHECK(!ended(self));
}
