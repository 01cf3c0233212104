// bits: 64 32
// flavours: host
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/workloads/workload.h"

// The same program exists for the other kind of code, beside this one: NAME and NAME_32.
namespace {
// What a member runs: says that it is there, waits for its turn, and says of which kind it is.
void be_member(int out) {
  int signal = 0;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, workload::kGo);
  char word = 'r';
  MUST(write(out, &word, 1));
  while (sigwait(&set, &signal) != 0) {
  }
  word = sizeof(void*) == 8 ? '8' : '4';
  MUST(write(out, &word, 1));
  _exit(0);
}

void other_program(char* path, size_t size) {
  const ssize_t length = MUST(readlink("/proc/self/exe", path, size - 4));
  path[length] = 0;
  char* end = path + length - 3;
  if (length > 3 && strcmp(end, "_32") == 0) *end = 0;
  else strcat(path, "_32");
}

[[noreturn]] void execute(const char* path, int out) {
  char number[16];
  snprintf(number, sizeof number, "%d", out);
  execl(path, path, "--member", number, nullptr);
  workload::fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
}

char receive(int from) {
  char word = 0;
  CHECK_EQ(MUST(read(from, &word, 1)), 1);
  return word;
}

// Before main(): an executed member is no workload of its own.
[[gnu::constructor]] void maybe_be_member(int argc, char** argv, char**) {
  if (argc == 3 && strcmp(argv[1], "--member") == 0) be_member(atoi(argv[2]));
}
}  // namespace

WORKLOAD("programs of 32-bit and of 64-bit code in one tree stay what they are") {
  char other[PATH_MAX];
  other_program(other, sizeof other);
  if (access(other, X_OK) != 0) workload::skip("no compiler here for 32-bit programs");
  constexpr char kSame = sizeof(void*) == 8 ? '8' : '4', kOther = sizeof(void*) == 8 ? '4' : '8';
  const char expected[] = {kSame, kOther, kSame};
  pid_t members[3];
  int pipes[3][2];
  for (int i = 0; i < 3; ++i) {
    MUST(pipe(pipes[i]));
    members[i] = MUST(fork());
    if (members[i] != 0) continue;
    if (i == 0) be_member(pipes[i][1]);  // a copy of this program
    // One that executes the other program, and one that executes this one anew out of a child of its own.
    execute(i == 1 ? other : "/proc/self/exe", pipes[i][1]);
  }
  for (auto& pipe : pipes) CHECK_EQ(receive(pipe[0]), 'r');
  workload::checkpoint_here();
  for (int i = 0; i < 3; ++i) {
    MUST(kill(members[i], workload::kGo));
    CHECK_EQ(receive(pipes[i][0]), expected[i]);
    int status = 0;
    CHECK_EQ(MUST(waitpid(members[i], &status, 0)), members[i]);
    CHECK_EQ(status, 0);
  }
  // Programs of the other kind can still be executed.
  const pid_t late = MUST(fork());
  if (late == 0) execute(other, pipes[0][1]);
  CHECK_EQ(receive(pipes[0][0]), 'r');
  MUST(kill(late, workload::kGo));
  CHECK_EQ(receive(pipes[0][0]), kOther);
}
