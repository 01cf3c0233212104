#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/workloads/clone.h"

namespace {

struct Member {
  int ready;
  pid_t pid, sid, parent;
};
struct Shared {
  Member adopter, leader, orphan;
  Member elder, middle, younger, of_elder, of_younger;
  int leader_moves, middle_adopts, of_younger_has_moved, younger_moves;
};
Shared* shared;
volatile sig_atomic_t g_news;  // of children that ended

void note(int) { g_news = g_news + 1; }

// Nobody hears of processes that a restore needed and that are gone.
void be(Member& self) {
  struct sigaction action{};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;
  MUST(sigaction(SIGCHLD, &action, nullptr));
  self.pid = getpid(), self.sid = getsid(0);
  workload::set(&self.ready);
  workload::wait_for_go_signal();
  CHECK_EQ(g_news, 0);
  CHECK(waitpid(-1, nullptr, WNOHANG) <= 0);
  CHECK_EQ(getsid(0), self.sid);
  CHECK_EQ(getppid(), self.parent);
}

template <class Body>
pid_t child(Body body) {
  const pid_t pid = MUST(fork());
  if (pid != 0) return pid;
  body();
  _exit(0);
}

void bear(Member& member) {
  child([&] { be(member); });
  workload::wait_until(&member.ready);
}

// Whoever adopts orphans gets it, as the one who gives birth to it ends.
void bear_orphan(Member& member) {
  workload::wait_for_success(child([&] { bear(member); }));
}

void end(const Member& member) {
  workload::tell_to_go(member.pid);
  workload::wait_for_success(member.pid);
}

// Runs `body` in a grandchild, which is adopted when `moves` is set.
template <class Body>
pid_t grandchild(const int* moves, Body body) {
  return child([&] {
    child(body);
    workload::wait_until(moves);
  });
}

// It adopts a process of the session of its grandchild, which then moves further up.
void adopter() {
  MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
  const pid_t between = grandchild(&shared->leader_moves, [] {
    MUST(setsid());
    bear_orphan(shared->orphan);
    be(shared->leader);
  });
  workload::wait_until(&shared->leader.ready);
  MUST(prctl(PR_SET_CHILD_SUBREAPER, 0));
  workload::set(&shared->leader_moves);
  workload::wait_for_success(between);
  be(shared->adopter);
  end(shared->orphan);
}

// So does a leader that was born into an older one's session, as was the leader that moves: that one has a child
// there.
void middle() {
  const pid_t between = grandchild(&shared->younger_moves, [] {
    bear(shared->of_elder);
    MUST(setsid());
    workload::wait_until(&shared->middle_adopts);
    bear_orphan(shared->of_younger);
    workload::set(&shared->of_younger_has_moved);
    be(shared->younger);
    end(shared->of_elder);
  });
  MUST(setsid());
  MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
  workload::set(&shared->middle_adopts);
  workload::wait_until(&shared->of_younger_has_moved);
  MUST(prctl(PR_SET_CHILD_SUBREAPER, 0));
  workload::wait_until(&shared->younger.ready);
  workload::set(&shared->younger_moves);
  workload::wait_for_success(between);
  be(shared->middle);
  end(shared->of_younger);
}

void elder() {
  MUST(setsid());
  child(middle);
  workload::wait_until(&shared->middle.ready);
  be(shared->elder);
  end(shared->middle);
}

void know_parents() {
  const pid_t top = getpid();
  shared->adopter.parent = shared->leader.parent = shared->elder.parent = shared->younger.parent = top;
  shared->orphan.parent = shared->adopter.pid;
  shared->middle.parent = shared->elder.pid;
  shared->of_elder.parent = shared->younger.pid;
  shared->of_younger.parent = shared->middle.pid;
}

}  // namespace

WORKLOAD("processes stay in sessions of living leaders that have moved away from their parents since") {
  shared = workload::shared_object<Shared>();
  MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
  child(adopter);
  child(elder);
  workload::wait_until(&shared->adopter.ready);
  workload::wait_until(&shared->elder.ready);
  know_parents();
  CHECK_EQ(shared->orphan.sid, shared->leader.pid);
  CHECK_EQ(shared->of_elder.sid, shared->elder.pid);
  CHECK_EQ(shared->of_younger.sid, shared->younger.pid);
  workload::checkpoint_here();
  for (const Member* member : {&shared->adopter, &shared->elder, &shared->younger, &shared->leader}) end(*member);
}
