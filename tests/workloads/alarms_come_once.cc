#include <signal.h>
#include <sys/time.h>
#include <time.h>

#include "tests/workloads/workload.h"

WORKLOAD("alarms of a family come once each, whenever in a checkpoint they do") {
  constexpr int kChildren = 50;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGALRM);
  MUST(sigprocmask(SIG_BLOCK, &set, nullptr));
  pid_t children[kChildren];
  for (int i = 0; i < kChildren; ++i)
    children[i] = workload::fork_child([=] {
      const itimerval value{{0, 0}, {0, 50'000 + i * 15'000}};
      MUST(setitimer(ITIMER_REAL, &value, nullptr));
      workload::checkpoint_here();
      const timespec deadline{5, 0}, moment{0, 100'000'000};
      siginfo_t info{};
      CHECK_EQ(MUST(sigtimedwait(&set, &info, &deadline)), SIGALRM);
      CHECK_EQ(info.si_code, SI_KERNEL);
      CHECK_EQ(sigtimedwait(&set, nullptr, &moment), -1);
    });
  workload::checkpoint_here();
  for (const pid_t child : children) workload::join(child);
}
