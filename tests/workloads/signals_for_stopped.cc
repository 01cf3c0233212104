#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

namespace {
int g_report[2];
void report(int) {
  const char byte = 'h';
  if (write(g_report[1], &byte, 1) != 1) _exit(1);
}

struct Stopped {
  pid_t pid = -1;
  int waiting = 0;
};

// A process of two threads that is stopped, and `signal` sent to it then, which it does not block.
Stopped stop_with(int signal) {
  const pid_t pid = MUST(fork());
  if (pid == 0) {
    sigset_t none;
    sigemptyset(&none);
    MUST(sigprocmask(SIG_SETMASK, &none, nullptr));
    struct sigaction action{};
    action.sa_handler = report;
    MUST(sigaction(SIGHUP, &action, nullptr));
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, nullptr, [](void*) -> void* { for (;;) pause(); }, nullptr), 0);
    report(0);
    for (;;) pause();
  }
  char byte;
  CHECK_EQ(MUST(read(g_report[0], &byte, 1)), 1);
  MUST(kill(pid, SIGSTOP));
  int status = 0;
  CHECK_EQ(MUST(waitpid(pid, &status, WUNTRACED)), pid);
  CHECK(WIFSTOPPED(status));
  MUST(kill(pid, signal));
  return {pid, signal};
}

char state_of(pid_t pid) {
  char path[32], text[512] = {};
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE* file = MUST(fopen(path, "r"));
  CHECK(fgets(text, sizeof text, file) != nullptr);
  fclose(file);
  return strrchr(text, ')')[2];
}
}  // namespace

WORKLOAD("signals that came to a stopped process wait until it goes on, the deadly ones too") {
  MUST(pipe(g_report));
  const Stopped deadly[] = {stop_with(SIGTERM), stop_with(SIGRTMIN + 3), stop_with(SIGUSR1)};
  const Stopped caught = stop_with(SIGHUP);
  workload::checkpoint_here();
  usleep(20'000);
  for (const Stopped& one : deadly) {
    CHECK_EQ(state_of(one.pid), 'T');
    MUST(kill(one.pid, SIGCONT));
    int status = 0;
    CHECK_EQ(MUST(waitpid(one.pid, &status, 0)), one.pid);
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), one.waiting);
  }
  CHECK_EQ(state_of(caught.pid), 'T');
  MUST(kill(caught.pid, SIGCONT));
  char byte = 0;
  CHECK_EQ(MUST(read(g_report[0], &byte, 1)), 1);
  CHECK_EQ(byte, 'h');
  MUST(kill(caught.pid, SIGKILL));
}
