#include <fcntl.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

// Copies itself, starts the copy in a child, and deletes it: as a package upgrade does to what runs.
namespace {
void copy_self(const char* to) {
  const int in = MUST(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const int out = MUST(open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755));
  char buffer[1 << 16];
  ssize_t got;
  while ((got = MUST(read(in, buffer, sizeof buffer))) > 0) CHECK_EQ(write(out, buffer, static_cast<size_t>(got)), got);
  close(in);
  close(out);
}
}  // namespace

WORKLOAD("a program whose executable was deleted while it runs goes on") {
  char self[256] = {};
  MUST(readlink("/proc/self/exe", self, sizeof self - 1));
  if (!strstr(self, "/copy")) {
    copy_self("copy");
    // This process becomes the copy, which comes here again.
    char* const arguments[] = {const_cast<char*>("copy"), const_cast<char*>(workload::directory()), nullptr};
    execv("copy", arguments);
    CHECK(!"execv");
  }
  MUST(unlink("copy"));
  workload::checkpoint_here();
  MUST(readlink("/proc/self/exe", self, sizeof self - 1));
  CHECK(strstr(self, "/copy"));
}
