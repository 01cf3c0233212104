// bits: 64 32
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/workloads/workload.h"

// Natively, a signal that comes while a process is stopped ends the call it was stopped in. A call that was merely begun
// anew would sleep through it.
namespace {
int g_data[2], g_report[2];
volatile sig_atomic_t g_caught = 0;

void tell(char what) {
  if (write(g_report[1], &what, 1) != 1) _exit(1);
}
void expect_told(char what) {
  char told = 0;
  CHECK_EQ(MUST(read(g_report[0], &told, 1)), 1);
  CHECK_EQ(told, what);
}

void wait_with_pause() { CHECK(pause() == -1 && errno == EINTR); }
void wait_with_sigsuspend() {
  sigset_t none;
  sigemptyset(&none);
  CHECK(sigsuspend(&none) == -1 && errno == EINTR);
}
void wait_with_nanosleep() {
  const timespec long_time{1000, 0};
  timespec left{};
  CHECK(nanosleep(&long_time, &left) == -1 && errno == EINTR);
  CHECK(left.tv_sec > 900);
}
void wait_with_read() {
  char byte;
  CHECK(read(g_data[0], &byte, 1) == -1 && errno == EINTR);
}
// With SA_RESTART the same call goes on.
void wait_with_restarted_read() {
  char byte = 0;
  CHECK_EQ(read(g_data[0], &byte, 1), 1);
  CHECK_EQ(byte, 'd');
}

struct Case {
  void (*wait)();
  int flags;
};
constexpr Case kCases[] = {{wait_with_pause, 0},           {wait_with_pause, SA_RESTART}, {wait_with_sigsuspend, SA_RESTART},
                           {wait_with_nanosleep, SA_RESTART}, {wait_with_read, 0},         {wait_with_restarted_read, SA_RESTART}};
constexpr int kCount = sizeof kCases / sizeof *kCases;

pid_t start(const Case& one) {
  const pid_t pid = MUST(fork());
  if (pid != 0) return pid;
  sigset_t none;
  sigemptyset(&none);
  MUST(sigprocmask(SIG_SETMASK, &none, nullptr));
  struct sigaction action{};
  action.sa_handler = [](int) { g_caught = 1; };
  action.sa_flags = one.flags;
  MUST(sigaction(SIGHUP, &action, nullptr));
  tell('b');
  one.wait();
  CHECK_EQ(g_caught, 1);
  tell('e');
  _exit(0);
}
}  // namespace

WORKLOAD("a signal that waits for a stopped process ends the call that it was stopped in, as if nothing had been") {
  MUST(pipe(g_data));
  MUST(pipe(g_report));
  pid_t all[kCount];
  for (int i = 0; i < kCount; ++i) {
    all[i] = start(kCases[i]);
    expect_told('b');
    usleep(10'000);
    MUST(kill(all[i], SIGSTOP));
    int status = 0;
    CHECK_EQ(MUST(waitpid(all[i], &status, WUNTRACED)), all[i]);
    MUST(kill(all[i], SIGHUP));
  }
  workload::checkpoint_here();
  for (int i = 0; i < kCount; ++i) {
    MUST(kill(all[i], SIGCONT));
    if (i == kCount - 1) {
      usleep(10'000);
      MUST(write(g_data[1], "d", 1));
    }
    expect_told('e');
    int status = 0;
    CHECK_EQ(MUST(waitpid(all[i], &status, 0)), all[i]);
    CHECK_EQ(status, 0);
  }
}
