#include <fcntl.h>

#include "tests/workloads/workload.h"

namespace {
bool set(const char* value) {
  const int fd = open("/proc/self/loginuid", O_WRONLY);
  if (fd < 0) return false;
  const bool done = write(fd, value, strlen(value)) > 0;
  close(fd);
  return done;
}
void check(const char* wanted) {
  char text[32] = "";
  const int fd = MUST(open("/proc/self/loginuid", O_RDONLY));
  MUST(read(fd, text, sizeof text - 1));
  close(fd);
  CHECK_EQ(std::string_view(text), std::string_view(wanted));
}
}  // namespace

WORKLOAD("the login id that audit records name stays, each process its own") {
  if (!set("4711")) workload::skip("the login id cannot be set here");
  const pid_t child = workload::fork_child([] {
    const bool changed = set("4712");
    workload::checkpoint_here();
    check(changed ? "4712" : "4711");
  });
  workload::checkpoint_here();
  check("4711");
  workload::join(child);
}
