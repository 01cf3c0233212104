#include "tests/workloads/workload.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace workload {
namespace {

char g_directory[PATH_MAX];
int g_ready_pipe = -1;  // in a child: its parent's fork_child reads until this closes
int g_parent_end = -1;  // in a parent: the other end, while it waits for a child to be ready
bool g_is_child = false;

// Writes DIRECTORY/name at once and whole. With `first_wins`, an existing file stays.
void write_file(const char* name, const char* text, bool first_wins) {
  char temporary[PATH_MAX + 64], path[PATH_MAX + 64];
  snprintf(path, sizeof path, "%s/%s", g_directory, name);
  snprintf(temporary, sizeof temporary, "%s/.%s.%ld", g_directory, name, syscall(SYS_gettid));
  const int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0 || write(fd, text, strlen(text)) < 0 || close(fd) < 0) _exit(99);
  if (first_wins) {
    (void)link(temporary, path);
    (void)unlink(temporary);
  } else if (rename(temporary, path) < 0) {
    _exit(99);
  }
}

void wait_for_go() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, kGo);
  int signal = 0;
  while (sigwait(&set, &signal) != 0 || signal != kGo) {
  }
}

}  // namespace

void checkpoint_here() {
  if (g_is_child) {
    if (g_ready_pipe >= 0) close(g_ready_pipe);
    g_ready_pipe = -1;
  } else {
    char text[32];
    snprintf(text, sizeof text, "%d\n", getpid());
    write_file("ready", text, false);
  }
  wait_for_go();
}

pid_t detail::begin_child() {
  int ends[2];
  MUST(pipe2(ends, O_CLOEXEC));
  const pid_t pid = MUST(fork());
  if (pid == 0) {
    close(ends[0]);
    if (g_ready_pipe >= 0) close(g_ready_pipe);
    g_ready_pipe = ends[1];
    g_is_child = true;
  } else {
    close(ends[1]);
    g_parent_end = ends[0];
  }
  return pid;
}

void detail::wait_until_child_is_ready() {
  char unused;
  while (read(g_parent_end, &unused, 1) < 0 && errno == EINTR) {
  }
  close(g_parent_end);
  g_parent_end = -1;
}

void detail::end_child() { _exit(0); }

void tell_to_go(pid_t child) { MUST(kill(child, kGo)); }

void wait_for_success(pid_t child) {
  int status = 0;
  pid_t waited;
  while ((waited = waitpid(child, &status, 0)) < 0 && errno == EINTR) {
  }
  CHECK_EQ(waited, child);
  if (status != 0) fail(__FILE__, __LINE__, "child %d ended with status 0x%x", child, static_cast<unsigned>(status));
}

void join(pid_t child) {
  tell_to_go(child);
  wait_for_success(child);
}

void skip(const char* why) {
  char text[512];
  snprintf(text, sizeof text, "SKIP %s\n", why);
  write_file("verdict", text, true);
  _exit(77);
}

void fail(const char* file, int line, const char* text, ...) {
  char what[900], whole[1024];
  va_list arguments;
  va_start(arguments, text);
  vsnprintf(what, sizeof what, text, arguments);
  va_end(arguments);
  const char* slash = strrchr(file, '/');
  snprintf(whole, sizeof whole, "FAIL %s:%d: %s\n", slash ? slash + 1 : file, line, what);
  write_file("verdict", whole, true);
  _exit(1);
}

void set_directory(const char* path) { snprintf(g_directory, sizeof g_directory, "%s", path); }
const char* directory() { return g_directory; }

namespace {
// A cheap generator whose n-th byte can be told from seed and n alone.
inline uint64_t word(uint32_t seed, size_t index) {
  uint64_t x = (static_cast<uint64_t>(seed) << 32) ^ (index * 0x9E3779B97F4A7C15u) ^ 0xD1B54A32D192ED03u;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9u;
  return x ^ (x >> 32);
}
}  // namespace

void fill_pattern(void* memory, size_t bytes, uint32_t seed) {
  auto* out = static_cast<unsigned char*>(memory);
  for (size_t i = 0; i < bytes; i += sizeof(uint64_t)) {
    const uint64_t value = word(seed, i / sizeof value);
    memcpy(out + i, &value, bytes - i < sizeof value ? bytes - i : sizeof value);
  }
}

bool has_pattern(const void* memory, size_t bytes, uint32_t seed) {
  const auto* in = static_cast<const unsigned char*>(memory);
  for (size_t i = 0; i < bytes; i += sizeof(uint64_t)) {
    const uint64_t value = word(seed, i / sizeof value);
    if (memcmp(in + i, &value, bytes - i < sizeof value ? bytes - i : sizeof value) != 0) return false;
  }
  return true;
}

bool status_value(const char* key, char* value, size_t size, pid_t tid) {
  char path[64], text[8192];
  snprintf(path, sizeof path, "/proc/self/task/%ld/status", tid ? static_cast<long>(tid) : syscall(SYS_gettid));
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t got = read(fd, text, sizeof text - 1);
  close(fd);
  if (got <= 0) return false;
  text[got] = 0;
  const size_t length = strlen(key);
  for (char* line = strtok(text, "\n"); line; line = strtok(nullptr, "\n")) {
    if (strncmp(line, key, length) != 0 || line[length] != ':') continue;
    const char* start = line + length + 1;
    while (*start == ' ' || *start == '\t') ++start;
    snprintf(value, size, "%s", start);
    return true;
  }
  return false;
}

int run(int argc, char** argv, const char* claim, void (*body)()) {
  if (argc == 2 && strcmp(argv[1], "--describe") == 0) {
    puts(claim);
    return 0;
  }
  if (argc != 2 || argv[1][0] != '/') {
    fprintf(stderr, "usage: %s --describe | ABSOLUTE-DIRECTORY\nClaim: %s.\n", argv[0], claim);
    return 2;
  }
  set_directory(argv[1]);
  sigset_t go;
  sigemptyset(&go);
  sigaddset(&go, kGo);
  MUST(sigprocmask(SIG_BLOCK, &go, nullptr));
  MUST(chdir(g_directory));
  body();
  if (!g_is_child) write_file("verdict", "PASS\n", true);
  return 0;
}

}  // namespace workload
