// nest ROOT PROGRAM ARGUMENT [SOURCE TARGET]: starts a small container (new pid, mount, uts, ipc and net namespaces,
// ROOT as root directory, /proc and a tmpfs), prints the pid of its init and leaves. The init is
// ROOT/init, a copy of this program: it starts PROGRAM, reaps whatever becomes its child, and ends when
// PROGRAM ends. SOURCE, a folder outside, is bind-mounted on TARGET inside.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

void check(bool good, const char* what) {
  if (good) return;
  fprintf(stderr, "nest: %s: %s\n", what, strerror(errno));
  _exit(1);
}

void enter_root(const char* root, const char* source, const char* target) {
  check(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "private mounts");
  check(mount(root, root, nullptr, MS_BIND, nullptr) == 0, "bind mount of the root");
  check(chdir(root) == 0, "chdir");
  if (source) check(mount(source, target + 1, nullptr, MS_BIND, nullptr) == 0, "bind mount from outside");
  check(syscall(SYS_pivot_root, ".", ".") == 0, "pivot_root");
  check(umount2(".", MNT_DETACH) == 0, "umount of the old root");
  check(chdir("/") == 0, "chdir");
  check(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0, "mount of /proc");
  check(mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=4m") == 0, "mount of /tmp");
}

[[noreturn]] void set_up_and_become_init(char** argv) {
  enter_root(argv[1], argv[4], argv[4] ? argv[5] : nullptr);
  check(sethostname("nest", 4) == 0, "sethostname");
  check(setsid() > 0, "setsid");
  // No descriptor leads out of the container.
  const int null = open("/dev/null", O_RDWR);
  check(null >= 0, "/dev/null");
  for (int fd = 0; fd < 3; ++fd) dup2(null, fd);
  for (int fd = 3; fd < 64; ++fd) close(fd);
  char name[] = "/init";
  char* arguments[] = {name, argv[2], argv[3], nullptr};
  execv(name, arguments);
  _exit(127);
}

int be_init(char** argv) {
  const pid_t child = fork();
  if (child == 0) {
    setsid();
    execv(argv[1], argv + 1);
    _exit(127);
  }
  int status = 0;
  for (;;) {
    const pid_t ended = wait(&status);
    if (ended == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (ended < 0 && errno != EINTR) return 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && getpid() == 1) return be_init(argv);
  if (argc != 4 && argc != 6) {
    fputs("usage: nest ROOT PROGRAM ARGUMENT [SOURCE TARGET]\n", stderr);
    return 2;
  }
  check(unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET) == 0, "unshare");
  const pid_t child = fork();
  check(child >= 0, "fork");
  if (child == 0) set_up_and_become_init(argv);
  printf("%d\n", child);
  return 0;
}
