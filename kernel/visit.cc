#include "kernel/visit.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/signals.h"
#include "kernel/call.h"
#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::sys {

namespace {

constexpr std::size_t kStackBytes = 512 << 10;

struct Visit {
  int pidfd;
  int types;
  Result<> (*work)(void*);
  void* argument;
  Result<> outcome;
};

int run_visit(void* raw) {
  Visit& visit = *static_cast<Visit*>(raw);
  visit.outcome = setns(visit.pidfd, visit.types);
  if (visit.outcome) visit.outcome = visit.work(visit.argument);
  // _exit: the C library's exit handlers belong to the process whose memory this is.
  ::_exit(0);
}

}  // namespace

Result<> visit_namespaces(int pidfd, int types, Result<> (*work)(void*), void* argument) {
  const Mapping stack = TRY(Mapping::map(-1, kStackBytes, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE));
  Visit visit{pidfd, types, work, argument, {}};

  // A signal handler must not run on the shared memory while the caller is suspended in vfork.
  const AllSignalsBlocked quiet;

  // No exit signal: a SIGCHLD would wake whoever waits for other children.
  const pid_t child = ::clone(run_visit, stack.data() + stack.size(),
                              CLONE_VM | CLONE_VFORK | CLONE_FILES, &visit);
  if (child == -1) return failed("clone");
  int status = 0;
  if (retry([&] { return ::waitpid(child, &status, __WALL); }) == -1) return failed("waitpid");
  if (status != 0)
    return fail(Error::unsupported("the helper inside the namespaces was killed"));
  return std::move(visit.outcome);
}

}  // namespace dormouse::sys
