// bits: 64 32
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_stage{0};

// From now on `number` fails with `error` in this thread.
void deny(int number, int error) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program{sizeof code / sizeof code[0], code};
  MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

void* body(void*) {
  deny(SYS_getppid, 100);  // on top of the inherited filter
  g_stage = 1;
  while (g_stage == 1) usleep(1000);
  CHECK_EQ(syscall(SYS_getppid), -1L);
  CHECK_EQ(errno, 100);
  CHECK_EQ(syscall(SYS_sync), -1L);
  CHECK_EQ(errno, 55);
  return nullptr;
}
}  // namespace

WORKLOAD("seccomp filters stay, in their order, each thread its own chain") {
  deny(SYS_sync, 54);
  deny(SYS_sync, 55);  // the newest filter decides between equal actions
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  while (g_stage == 0) usleep(100);
  workload::checkpoint_here();
  CHECK(syscall(SYS_getppid) >= 0);
  CHECK_EQ(syscall(SYS_sync), -1L);
  CHECK_EQ(errno, 55);
  char mode[16], count[16];
  CHECK(workload::status_value("Seccomp", mode, sizeof mode));
  CHECK(workload::status_value("Seccomp_filters", count, sizeof count));
  CHECK_EQ(mode, "2");
  CHECK_EQ(count, "2");
  g_stage = 2;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
}
