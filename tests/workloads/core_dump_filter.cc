#include <fcntl.h>

#include "tests/workloads/workload.h"

namespace {
void set(const char* value) {
  const int fd = MUST(open("/proc/self/coredump_filter", O_WRONLY));
  MUST(write(fd, value, strlen(value)));
  close(fd);
}
void check(const char* wanted) {
  char text[32] = "";
  const int fd = MUST(open("/proc/self/coredump_filter", O_RDONLY));
  MUST(read(fd, text, sizeof text - 1));
  close(fd);
  CHECK_EQ(std::string_view(text), std::string_view(wanted));
}
}  // namespace

WORKLOAD("what a core dump would hold stays chosen, each process its own") {
  set("0x7f");
  const pid_t child = workload::fork_child([] {
    set("0x1");
    workload::checkpoint_here();
    check("00000001\n");
  });
  workload::checkpoint_here();
  check("0000007f\n");
  workload::join(child);
}
