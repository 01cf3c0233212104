// take_pid PID: makes a process of just that pid, which sleeps; prints its pid.
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
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
  if (pid == 0) {
    close(0);
    close(1);
    close(2);
    for (;;) pause();
  }
  printf("%ld\n", pid);
  return 0;
}
