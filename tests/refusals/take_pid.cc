// take_pid PID: makes a process of just that pid, which sleeps; prints its pid.
// take_pid PID group: the process ends and leaves its group to a child, which sleeps; prints that one's pid.
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

[[noreturn]] void sleep_for_ever() {
  close(0);
  close(1);
  close(2);
  for (;;) pause();
}

[[noreturn]] void leave_group() {
  setpgid(0, 0);
  const pid_t member = fork();
  if (member == 0) sleep_for_ever();
  printf("%d\n", member);
  fflush(stdout);
  _exit(0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) return 2;
  const bool leaves_group = argc == 3;
  pid_t wanted = atoi(argv[1]);
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<uint64_t>(&wanted);
  arguments.set_tid_size = 1;
  const long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) {
    fprintf(stderr, "take_pid: %s\n", strerror(errno));
    return 1;
  }
  if (pid == 0 && leaves_group) leave_group();
  if (pid == 0) sleep_for_ever();
  if (leaves_group) return waitpid(static_cast<pid_t>(pid), nullptr, 0) < 0;
  printf("%ld\n", pid);
  return 0;
}
