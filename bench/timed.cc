// Measures another program without being measured with it.
//
//   timed RECORD PROGRAM ARGUMENT…    runs it, waits, appends a line to RECORD, exits as it did
//   criu ARGUMENT…                    (under this name) becomes $TIMED_PROGRAM, and a watcher appends a line
//                                     to $TIMED_RECORD when that ends
//
// A line: "WALL_NANOSECONDS PEAK_RSS_KIB EXIT_STATUS FIRST_ARGUMENT". The second way is for runtimes:
// what they start must itself be the engine, since a restored container's init becomes the engine's
// sibling. Its watcher is nobody's child, sees nothing but the end, and leaves the other two fields at -1.
// (A peak measured from a large parent, like Python, would be the parent's: the kernel carries it over exec.)
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace {

int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

void record(const char* path, int64_t wall_ns, long rss_kib, int status, const char* what) {
  char line[256];
  const int length = snprintf(line, sizeof line, "%lld %ld %d %s\n", static_cast<long long>(wall_ns), rss_kib, status, what);
  const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0 || write(fd, line, static_cast<size_t>(length)) != length) perror(path);
  close(fd);
}

int run_and_wait(char** argv) {
  const int64_t start = now_ns();
  const pid_t child = fork();
  if (child == 0) {
    execv(argv[2], argv + 2);
    perror(argv[2]);
    _exit(127);
  }
  int status = 0;
  rusage usage{};
  while (wait4(child, &status, 0, &usage) < 0 && errno == EINTR) {
  }
  const int64_t end = now_ns();
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  record(argv[1], end - start, usage.ru_maxrss, code, argv[3] ? argv[3] : "-");
  return code;
}

int become_the_engine(char** argv) {
  const char* program = getenv("TIMED_PROGRAM");
  const char* path = getenv("TIMED_RECORD");
  if (!program || !path) {
    fputs("TIMED_PROGRAM and TIMED_RECORD are not set\n", stderr);
    return 127;
  }
  const int engine = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
  const pid_t middle = fork();
  if (middle == 0) {
    if (fork() != 0) _exit(0);
    setsid();
    // Whoever reads the engine's stdio or socket must not wait for us.
    for (int fd = 0; fd < 1024; ++fd)
      if (fd != engine) close(fd);
    const int64_t start = now_ns();
    pollfd end{engine, POLLIN, 0};
    while (poll(&end, 1, -1) < 0 && errno == EINTR) {
    }
    record(path, now_ns() - start, -1, -1, argv[1] ? argv[1] : "-");
    _exit(0);
  }
  waitpid(middle, nullptr, 0);
  close(engine);
  execv(program, argv);
  return 127;
}

}  // namespace

int main(int argc, char** argv) {
  const char* name = strrchr(argv[0], '/');
  if (strcmp(name ? name + 1 : argv[0], "criu") == 0) return become_the_engine(argv);
  if (argc < 3) {
    fputs("usage: timed RECORD PROGRAM ARGUMENT...\n", stderr);
    return 2;
  }
  return run_and_wait(argv);
}
