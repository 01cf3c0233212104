#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

namespace {
struct Path {
  char text[100];
};
Path file_of(pid_t pid, const char* name) {
  Path path;
  snprintf(path.text, sizeof path.text, "/proc/%d%s%s", pid, *name != 0 ? "/" : "", name);
  return path;
}
int open_of(pid_t pid, const char* name, int flags = O_RDONLY) { return MUST(open(file_of(pid, name).text, flags)); }

// What /proc/PID/stat says first.
int pid_in(int stat) {
  char text[32] = "";
  MUST(pread(stat, text, sizeof text - 1, 0));
  return atoi(text);
}
Path link_of(const char* link) {
  Path path{};
  MUST(readlink(link, path.text, sizeof path.text - 1));
  return path;
}
Path link_of(int fd) {
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  return link_of(link);
}

// Others may mount something at any time.
bool has_mounts_of_here(int mountinfo) {
  static char there[1 << 16], here[1 << 16];
  for (int attempt = 0; attempt < 100; ++attempt) {
    const int own = open_of(getpid(), "mountinfo");
    const ssize_t bytes[] = {MUST(pread(mountinfo, there, sizeof there, 0)), MUST(pread(own, here, sizeof here, 0))};
    MUST(close(own));
    if (bytes[0] > 0 && bytes[0] == bytes[1] && memcmp(there, here, static_cast<size_t>(bytes[0])) == 0) return true;
  }
  return false;
}
constexpr int kSecret = 4711;
volatile int g_known = kSecret;
}  // namespace

WORKLOAD("open files and directories of /proc belong to the same processes, those that are gone too") {
  const pid_t gone = MUST(fork());
  if (gone == 0) {
    pause();
    _exit(0);
  }
  const int mounts = open_of(gone, "mountinfo"), directory = open_of(gone, "", O_RDONLY | O_DIRECTORY);
  const int stat_of_gone = open_of(gone, "stat"), tasks = open_of(gone, "task", O_RDONLY | O_DIRECTORY);
  const int self = open_of(getpid(), "stat"), path_only = open_of(getpid(), "status", O_PATH);
  MUST(lseek(self, 7, SEEK_SET));
  const int memory = open_of(getpid(), "mem", O_RDWR);
  const pid_t child = workload::fork_child([=] {
    MUST(chdir(file_of(gone, "").text));
    const int of_parent = open_of(getppid(), "stat");
    workload::checkpoint_here();
    char here[200];
    CHECK(getcwd(here, sizeof here) == nullptr);
    CHECK_EQ(errno, ENOENT);
    CHECK_EQ(pid_in(of_parent), getppid());
  });
  const int of_child = open_of(child, "stat"), folder = open_of(child, "", O_RDONLY | O_DIRECTORY);
  MUST(kill(gone, SIGKILL));
  CHECK_EQ(MUST(waitpid(gone, nullptr, 0)), gone);
  const Path before[] = {link_of(mounts), link_of(directory), link_of(stat_of_gone), link_of(tasks)};
  workload::checkpoint_here();
  CHECK_EQ(pid_in(self), getpid());
  CHECK_EQ(MUST(lseek(self, 0, SEEK_CUR)), 7);
  CHECK_EQ(pid_in(of_child), child);
  const int inside = MUST(openat(folder, "stat", O_RDONLY));
  CHECK_EQ(pid_in(inside), child);
  struct stat status{};
  MUST(fstat(path_only, &status));
  int known = 0;
  CHECK_EQ(MUST(pread(memory, &known, sizeof known, reinterpret_cast<off_t>(&g_known))), static_cast<ssize_t>(sizeof known));
  CHECK_EQ(known, kSecret);

  const Path after[] = {link_of(mounts), link_of(directory), link_of(stat_of_gone), link_of(tasks)};
  for (int i = 0; i < 4; ++i) CHECK_EQ(before[i].text, after[i].text);
  char byte;
  CHECK_EQ(read(stat_of_gone, &byte, 1), -1);
  CHECK_EQ(errno, ESRCH);
  CHECK_EQ(openat(directory, "stat", O_RDONLY), -1);
  CHECK(has_mounts_of_here(mounts));  // it holds on to the mount namespace
  workload::join(child);
}
