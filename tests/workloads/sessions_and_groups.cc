#include "tests/workloads/workload.h"

WORKLOAD("sessions and process groups stay, also a group whose leader is not the session's") {
  const pid_t leader = workload::fork_child([] {
    MUST(setsid());
    const pid_t group = workload::fork_child([] {
      MUST(setpgid(0, 0));
      const pid_t self = getpid(), session = getsid(0);
      workload::checkpoint_here();
      CHECK_EQ(getpgid(0), self);
      CHECK_EQ(getsid(0), session);
    });
    const pid_t member = workload::fork_child([group] {
      MUST(setpgid(0, group));
      workload::checkpoint_here();
      CHECK_EQ(getpgid(0), group);
    });
    const pid_t self = getpid();
    workload::checkpoint_here();
    CHECK_EQ(getsid(0), self);
    CHECK_EQ(getpgid(0), self);
    CHECK_EQ(getpgid(group), group);
    CHECK_EQ(getpgid(member), group);
    CHECK_EQ(getsid(member), self);
    workload::join(member);
    workload::join(group);
  });
  const pid_t session = getsid(0), group = getpgid(0);
  workload::checkpoint_here();
  CHECK_EQ(getsid(0), session);
  CHECK_EQ(getpgid(0), group);
  CHECK_EQ(getsid(leader), leader);
  workload::join(leader);
}
