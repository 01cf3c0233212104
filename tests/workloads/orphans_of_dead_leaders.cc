#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/workloads/clone.h"

namespace {

struct Orphan {
  int ready;
  pid_t pid, sid, pgid;
};
struct Shared {
  Orphan session, group, deep, brother, adopter;
};
Shared* shared;
volatile sig_atomic_t g_news;  // of children that ended

void note(int) { g_news = g_news + 1; }

void be(Orphan& self) {
  self.pid = getpid(), self.sid = getsid(0), self.pgid = getpgid(0);
  workload::set(&self.ready);
  workload::wait_for_go_signal();
  CHECK_EQ(getsid(0), self.sid);
  CHECK_EQ(getpgid(0), self.pgid);
}

pid_t orphan_in(Orphan& self) {
  const pid_t pid = MUST(fork());
  if (pid == 0) {
    be(self);
    _exit(0);
  }
  workload::wait_until(&self.ready);
  return pid;
}

// Leaves one process in its session and group, one in a group whose leader is gone as well, and one that leads its
// own session but has a child that was born before it did.
void session_leader() {
  MUST(setsid());
  orphan_in(shared->session);
  const pid_t group = MUST(fork());
  if (group == 0) {
    MUST(setpgid(0, 0));
    orphan_in(shared->group);
    _exit(0);
  }
  workload::wait_for_success(group);
  const pid_t between = MUST(fork());
  if (between == 0) {
    orphan_in(shared->deep);
    MUST(setsid());
    be(shared->brother);
    _exit(0);
  }
  workload::wait_until(&shared->brother.ready);
  _exit(0);
}

void end(const Orphan& orphan) {
  CHECK_EQ(getsid(orphan.pid), orphan.sid);
  CHECK_EQ(getpgid(orphan.pid), orphan.pgid);
  workload::tell_to_go(orphan.pid);
}

}  // namespace

WORKLOAD("processes stay in sessions and groups whose leaders are gone, with whoever has adopted them") {
  shared = workload::shared_object<Shared>();
  const pid_t adopter = MUST(fork());
  if (adopter == 0) {
    MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
    struct sigaction action{};
    action.sa_handler = note;
    action.sa_flags = SA_RESTART;
    MUST(sigaction(SIGCHLD, &action, nullptr));
    const pid_t leader = MUST(fork());
    if (leader == 0) session_leader();
    workload::wait_for_success(leader);
    CHECK_EQ(shared->session.sid, leader);
    CHECK_EQ(shared->deep.sid, leader);
    CHECK(shared->group.pgid != leader);
    g_news = 0;
    be(shared->adopter);
    CHECK_EQ(g_news, 0);
    end(shared->session);
    end(shared->group);
    end(shared->deep);
    workload::wait_for_success(shared->session.pid);
    workload::wait_for_success(shared->group.pid);
    end(shared->brother);
    workload::wait_for_success(shared->brother.pid);
    _exit(0);
  }
  workload::wait_until(&shared->adopter.ready);
  workload::checkpoint_here();
  workload::join(adopter);
}
