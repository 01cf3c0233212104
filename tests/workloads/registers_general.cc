#include <pthread.h>
#include <unistd.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_running{0};
std::atomic<bool> g_stop{false};
std::atomic<int> g_wrong{0};

// Spins with known values in every general register (but the stack pointer and the one that the loop
// needs), the direction flag clear and the carry flag set, until `*stop` is not 0. Returns the
// number of registers that changed.
long spin_with_known_registers(const std::atomic<bool>* stop, unsigned long seed) {
  long wrong = 0;
  asm volatile(
      "lea -128(%%rsp), %%rsp\n\t"  // past the red zone
      "push %%rbp\n\t"
      "push %%rbx\n\t"
      "mov %[seed], %%rax\n\t"
      "lea 1(%%rax), %%rbx\n\t lea 2(%%rax), %%rcx\n\t lea 3(%%rax), %%rdx\n\t"
      "lea 4(%%rax), %%rbp\n\t lea 5(%%rax), %%r8\n\t lea 6(%%rax), %%r9\n\t"
      "lea 7(%%rax), %%r10\n\t lea 8(%%rax), %%r11\n\t lea 9(%%rax), %%r12\n\t"
      "lea 10(%%rax), %%r13\n\t lea 11(%%rax), %%r14\n\t"
      "stc\n"
      "1:\n\t"
      "jnc 3f\n\t"  // nothing in this loop touches the carry flag
      "pause\n\t"
      "movzbl (%%rdi), %%r15d\n\t"
      "inc %%r15b\n\t dec %%r15b\n\t"  // sets the zero flag and leaves the carry flag alone
      "jz 1b\n\t"
      "jmp 4f\n"
      "3:\n\t"
      "mov $1000, %%esi\n\t"
      "jmp 5f\n"
      "4:\n\t"
      "xor %%esi, %%esi\n"
      "5:\n\t"
#define EXPECT(reg, n) "lea " #n "(%%rax), %%r15\n\t cmp %%r15, %%" #reg "\n\t setne %%r15b\n\t movzbl %%r15b, %%r15d\n\t add %%r15, %%rsi\n\t"
      EXPECT(rbx, 1) EXPECT(rcx, 2) EXPECT(rdx, 3) EXPECT(rbp, 4) EXPECT(r8, 5) EXPECT(r9, 6)
      EXPECT(r10, 7) EXPECT(r11, 8) EXPECT(r12, 9) EXPECT(r13, 10) EXPECT(r14, 11)
#undef EXPECT
      "pop %%rbx\n\t"
      "pop %%rbp\n\t"
      "lea 128(%%rsp), %%rsp\n\t"
      : "=&S"(wrong)
      : "D"(stop), [seed] "0"(seed)
      : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory");
  return wrong;
}

void* spinner(void* seed) {
  ++g_running;
  g_wrong += static_cast<int>(spin_with_known_registers(&g_stop, reinterpret_cast<unsigned long>(seed)));
  return nullptr;
}
}  // namespace

WORKLOAD("threads that compute keep every general register and the flags") {
  pthread_t threads[2];
  unsigned long seed = 0x1122334455667788;
  for (pthread_t& thread : threads) {
    CHECK_EQ(pthread_create(&thread, nullptr, spinner, reinterpret_cast<void*>(seed)), 0);
    seed = ~seed;
  }
  while (g_running < 2) usleep(100);
  workload::checkpoint_here();
  g_stop = true;
  for (pthread_t thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
  CHECK_EQ(g_wrong.load(), 0);
}
