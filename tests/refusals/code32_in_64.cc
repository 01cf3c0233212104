#include <signal.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

// A 64-bit program may run 32-bit code too, as emulators do: system calls and handlers are 64-bit ones then.
WORKLOAD("runs 32-bit code in a program of 64-bit code") {
  constexpr unsigned char kLoop[] = {0xf3, 0x90, 0xeb, 0xfc};  // pause; jmp
  auto* code = static_cast<unsigned char*>(MUST(mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0)));
  memcpy(code, kLoop, sizeof kLoop);
  const pid_t spinner = MUST(fork());
  if (spinner == 0) {
    const unsigned long low_stack = reinterpret_cast<unsigned long>(code) + 4096;
    asm volatile("mov %0, %%rsp\n\t push $0x23\n\t push %1\n\t lretq" : : "r"(low_stack), "r"(code) : "memory");
  }
  usleep(10000);
  workload::checkpoint_here();
  MUST(kill(spinner, SIGKILL));
}
