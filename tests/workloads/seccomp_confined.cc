// bits: 64 32
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

namespace {
// Enough to be worth a second thread for writing it.
constexpr size_t kBytes = 48u << 20;

// Every call but these is deadly.
void confine() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 5, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 4, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program{sizeof code / sizeof code[0], code};
  MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}
// The oldest way: four calls are left, and all others deadly.
void be_strict() { MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)); }

// A process that serves its pipe under confinement, and has all of its memory afterwards.
struct Child {
  pid_t pid = 0;
  int to = -1, from = -1;
};
Child start(void (*rules)()) {
  int down[2], up[2];
  MUST(pipe(down));
  MUST(pipe(up));
  Child child;
  child.pid = MUST(fork());
  if (child.pid == 0) {
    void* memory = MUST(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    workload::fill_pattern(memory, kBytes, 7);
    rules();
    char c = 'r';
    (void)!write(up[1], &c, 1);
    const bool told = read(down[0], &c, 1) == 1;
    c = told && workload::has_pattern(memory, kBytes, 7) ? 'y' : 'n';
    (void)!write(up[1], &c, 1);
    syscall(SYS_exit, 0);
  }
  child.to = down[1], child.from = up[0];
  close(down[0]), close(up[1]);
  char c = 0;
  CHECK_EQ(MUST(read(child.from, &c, 1)), 1);
  return child;
}
void finish(const Child& child) {
  char c = 'g';
  MUST(write(child.to, &c, 1));
  CHECK_EQ(MUST(read(child.from, &c, 1)), 1);
  CHECK_EQ(c, 'y');
  int status = 0;
  MUST(waitpid(child.pid, &status, 0));
  CHECK_EQ(status, 0);
}
}  // namespace

WORKLOAD("processes to which nearly every system call is deadly live on, with all of their memory") {
  const Child strict = start(be_strict), filtered = start(confine);
  workload::checkpoint_here();
  finish(strict);
  finish(filtered);
}
