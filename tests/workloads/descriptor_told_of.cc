#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/workloads/workload.h"

namespace {

int told_of(pid_t pid, const char* kind, int number, int flags = O_RDONLY) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s/%d", pid, kind, number);
  return MUST(open(path, flags));
}

// The count of an eventfd as its fdinfo says.
unsigned long count_told_by(int fd) {
  char text[512] = {};
  MUST(pread(fd, text, sizeof text - 1, 0));
  const char* const at = strstr(text, "eventfd-count:");
  CHECK(at != nullptr);
  return strtoul(at + strlen("eventfd-count:"), nullptr, 16);
}

}  // namespace

WORKLOAD("open files that tell of a descriptor still do, of the reader's own and of another process's") {
  const int counter = MUST(eventfd(7, 0));
  const int information = told_of(getpid(), "fdinfo", counter);
  const int link = told_of(getpid(), "fd", counter, O_PATH | O_NOFOLLOW);
  constexpr int kOfChild = 40;
  int channel[2];
  MUST(pipe(channel));
  const pid_t child = workload::fork_child([=] {
    MUST(dup2(MUST(eventfd(9, 0)), kOfChild));
    MUST(write(channel[1], "x", 1));
    workload::checkpoint_here();
    CHECK_EQ(count_told_by(information), 7u);
  });
  char byte;
  MUST(read(channel[0], &byte, 1));
  const int of_child = told_of(child, "fdinfo", kOfChild);
  workload::checkpoint_here();
  CHECK_EQ(count_told_by(of_child), 9u);
  workload::join(child);
  const uint64_t more = 5;
  MUST(write(counter, &more, sizeof more));
  CHECK_EQ(count_told_by(information), 12u);
  char target[64] = {};
  MUST(readlinkat(link, "", target, sizeof target - 1));
  CHECK(strncmp(target, "anon_inode:", 11) == 0);
}
