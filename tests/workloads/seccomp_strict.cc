// bits: 64 32
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

// What is left to the thread is read(), write(), exit() and the return from a signal handler.
namespace {

int g_in[2], g_out[2];

[[noreturn]] void live_strictly() {
  MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0));
  char text[4] = "mem";
  MUST(write(g_out[1], "r", 1));
  char byte = 0;
  while (read(g_in[0], &byte, 1) == 1 && byte != 'e') {
    if (byte == 'c') (void)!write(g_out[1], text, 3);  // goes on
    if (byte == 'g') syscall(SYS_getpid);              // is killed
  }
  syscall(SYS_exit, 0);
  __builtin_trap();
}

int mode_of(pid_t pid) {
  char path[64], line[256];
  snprintf(path, sizeof path, "/proc/%d/status", pid);
  FILE* status = MUST(fopen(path, "re"));
  int mode = -1;
  while (fgets(line, sizeof line, status)) (void)sscanf(line, "Seccomp: %d", &mode);
  fclose(status);
  return mode;
}

}  // namespace

WORKLOAD("a process under seccomp's strict mode goes on, and under it") {
  MUST(pipe(g_in));
  MUST(pipe(g_out));
  const pid_t child = MUST(fork());
  if (child == 0) live_strictly();
  char text[4] = {};
  CHECK_EQ(MUST(read(g_out[0], text, 1)), 1);
  CHECK_EQ(mode_of(child), SECCOMP_MODE_STRICT);
  workload::checkpoint_here();
  CHECK_EQ(mode_of(child), SECCOMP_MODE_STRICT);
  MUST(write(g_in[1], "c", 1));
  CHECK_EQ(MUST(read(g_out[0], text, 3)), 3);
  CHECK_EQ(std::string_view(text), "mem");
  MUST(write(g_in[1], "g", 1));
  int status = 0;
  CHECK_EQ(MUST(waitpid(child, &status, 0)), child);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
