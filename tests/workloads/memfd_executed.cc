#include <fcntl.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

// Copies itself into a memfd and becomes that program, as container runtimes do.
WORKLOAD("a program that was executed from a memfd goes on") {
  char self[256] = {};
  MUST(readlink("/proc/self/exe", self, sizeof self - 1));
  if (!strstr(self, "/memfd:")) {
    const int program = MUST(memfd_create("program", MFD_ALLOW_SEALING | MFD_CLOEXEC)), in = MUST(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    static char buffer[1 << 16];
    ssize_t got;
    while ((got = MUST(read(in, buffer, sizeof buffer))) > 0) CHECK_EQ(write(program, buffer, static_cast<size_t>(got)), got);
    MUST(fcntl(program, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
    char* const arguments[] = {const_cast<char*>("program"), const_cast<char*>(workload::directory()), nullptr};
    fexecve(program, arguments, environ);
    CHECK(!"fexecve");
  }
  workload::checkpoint_here();
  MUST(readlink("/proc/self/exe", self, sizeof self - 1));
  CHECK_EQ(self, "/memfd:program (deleted)");
  const int again = MUST(open("/proc/self/exe", O_RDONLY));
  CHECK_EQ(fcntl(again, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
}
