#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/workloads/workload.h"

namespace {
#ifndef MFD_NOEXEC_SEAL
constexpr unsigned MFD_NOEXEC_SEAL = 8, MFD_EXEC = 16;
#endif
constexpr int kSealFutureWrite = 0x10, kSealExec = 0x20;  // F_SEAL_FUTURE_WRITE, F_SEAL_EXEC

void expect_name(int fd, const char* name) {
  char path[32], target[300] = {}, wanted[300];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  snprintf(wanted, sizeof wanted, "/memfd:%s (deleted)", name);
  MUST(readlink(path, target, sizeof target - 1));
  CHECK_EQ(target, wanted);
}
int make(const char* name, unsigned flags, off_t size, uint32_t seed) {
  const int fd = memfd_create(name, flags);
  if (fd < 0 && errno == EINVAL) workload::skip("this kernel does not know executable memfds (Linux 6.3)");
  CHECK(fd >= 0);
  char content[5000];
  workload::fill_pattern(content, sizeof content, seed);
  CHECK_EQ(pwrite(fd, content, static_cast<size_t>(size), 0), size);
  return fd;
}
void expect(int fd, const char* name, int seals, off_t size, mode_t mode, uint32_t seed) {
  struct stat stat;
  MUST(fstat(fd, &stat));
  CHECK_EQ(stat.st_size, size);
  CHECK_EQ(stat.st_mode & 07777, mode);
  CHECK_EQ(fcntl(fd, F_GET_SEALS), seals);
  char content[5000];
  CHECK_EQ(pread(fd, content, sizeof content, 0), size);
  CHECK(workload::has_pattern(content, static_cast<size_t>(size), seed));
  expect_name(fd, name);
}
}  // namespace

WORKLOAD("memfds keep names, modes, seals of every kind, and sizes that are no whole pages") {
  static char longest[250];
  memset(longest, 'x', 249);
  const int all = make("", MFD_ALLOW_SEALING | MFD_EXEC, 5, 1);
  MUST(fcntl(all, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
  const int none = make("two words (deleted)", MFD_EXEC, 4097, 2);  // cannot be sealed
  const int sealable = make(longest, MFD_ALLOW_SEALING | MFD_EXEC, 5000, 3);
  MUST(fchmod(sealable, 0640));
  const int data = make("data", MFD_NOEXEC_SEAL, 100, 4);
  MUST(fcntl(data, F_ADD_SEALS, F_SEAL_SHRINK));
  // What may be executed, sealed so, cannot be written either (Linux 6.3; before, there is no such seal).
  const int program = make("program", MFD_ALLOW_SEALING | MFD_EXEC, 200, 6);
  MUST(fchmod(program, 0755));
  const bool sealed = fcntl(program, F_ADD_SEALS, kSealExec) == 0;
  const int seals_of_program = MUST(fcntl(program, F_GET_SEALS));
  // Who had it mapped for writing before may still write.
  const int future = make("future", MFD_ALLOW_SEALING | MFD_EXEC, 4096, 5);
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0)));
  MUST(fcntl(future, F_ADD_SEALS, kSealFutureWrite));
  const int empty = MUST(memfd_create("empty", MFD_ALLOW_SEALING | MFD_EXEC));
  workload::checkpoint_here();
  expect(all, "", F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE, 5, 0777, 1);
  expect(none, "two words (deleted)", F_SEAL_SEAL, 4097, 0777, 2);
  expect(sealable, longest, 0, 5000, 0640, 3);
  expect(data, "data", kSealExec | F_SEAL_SHRINK, 100, 0666, 4);
  expect(program, "program", seals_of_program, 200, 0755, 6);
  if (sealed) CHECK_EQ(seals_of_program & (kSealExec | F_SEAL_WRITE), kSealExec | F_SEAL_WRITE);
  expect(future, "future", kSealFutureWrite, 4096, 0777, 5);
  expect(empty, "empty", 0, 0, 0777, 0);
  CHECK(pwrite(all, "x", 1, 0) == -1 && errno == EPERM);
  CHECK(pwrite(future, "x", 1, 0) == -1 && errno == EPERM);
  memory[7] = 'f';
  char byte;
  CHECK(pread(future, &byte, 1, 7) == 1 && byte == 'f');
  CHECK(ftruncate(data, 50) == -1 && errno == EPERM);
  MUST(fcntl(sealable, F_ADD_SEALS, F_SEAL_GROW));
}
