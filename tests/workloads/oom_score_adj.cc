#include <fcntl.h>

#include "tests/workloads/workload.h"

WORKLOAD("the adjustment of the out-of-memory score stays, each process its own") {
  // Raising needs no privilege; only lowering does.
  const auto set = [](const char* value) {
    const int fd = MUST(open("/proc/self/oom_score_adj", O_WRONLY));
    MUST(write(fd, value, strlen(value)));
    close(fd);
  };
  const auto get = [] {
    char text[16] = {};
    const int fd = MUST(open("/proc/self/oom_score_adj", O_RDONLY));
    MUST(read(fd, text, sizeof text - 1));
    close(fd);
    return atoi(text);
  };
  set("300");
  const pid_t child = workload::fork_child([&] {
    set("777");
    workload::checkpoint_here();
    CHECK_EQ(get(), 777);
  });
  workload::checkpoint_here();
  CHECK_EQ(get(), 300);
  workload::join(child);
}
