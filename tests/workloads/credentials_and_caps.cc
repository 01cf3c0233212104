#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

namespace {
struct Caps {
  __user_cap_data_struct sets[2];
};
Caps capget() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  Caps caps{};
  CHECK_EQ(syscall(SYS_capget, &header, &caps), 0);
  return caps;
}
}  // namespace

WORKLOAD("user and group ids, supplementary groups, capabilities and securebits stay") {
  MUST(chmod(workload::directory(), 0777));
  const gid_t groups[] = {7, 70, 700};
  MUST(setgroups(3, groups));
  MUST(prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT));
  MUST(prctl(PR_SET_KEEPCAPS, 1));
  MUST(setresgid(101, 102, 103));
  MUST(setresuid(201, 202, 203));
  setfsuid(201);
  setfsgid(103);
  constexpr uint32_t kPermitted = 1u << CAP_KILL | 1u << CAP_CHOWN | 1u << CAP_NET_RAW | 1u << CAP_SETPCAP;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  Caps caps{{{1u << CAP_KILL, kPermitted, 1u << CAP_NET_RAW}, {0, 0, 0}}};
  CHECK_EQ(syscall(SYS_capset, &header, &caps), 0);
  MUST(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0));
  const int securebits = MUST(prctl(PR_GET_SECUREBITS));

  workload::checkpoint_here();

  uid_t r, e, s;
  MUST(getresuid(&r, &e, &s));
  CHECK(r == 201 && e == 202 && s == 203);
  MUST(getresgid(&r, &e, &s));
  CHECK(r == 101 && e == 102 && s == 103);
  CHECK_EQ(setfsuid(-1), 201);
  CHECK_EQ(setfsgid(-1), 103);
  gid_t now[8];
  CHECK_EQ(getgroups(8, now), 3);
  CHECK(memcmp(groups, now, sizeof groups) == 0);
  const Caps restored = capget();
  CHECK_EQ(restored.sets[0].effective, 1u << CAP_KILL);
  CHECK_EQ(restored.sets[0].permitted, kPermitted);
  CHECK_EQ(restored.sets[0].inheritable, 1u << CAP_NET_RAW);
  CHECK_EQ(restored.sets[1].permitted, 0u);
  CHECK_EQ(prctl(PR_CAPBSET_READ, CAP_SYS_BOOT), 0);
  CHECK_EQ(prctl(PR_CAPBSET_READ, CAP_KILL), 1);
  CHECK_EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW, 0, 0), 1);
  CHECK_EQ(prctl(PR_GET_SECUREBITS), securebits);
}
