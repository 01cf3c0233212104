// bits: 32
#include <pthread.h>
#include <unistd.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_running{0};
std::atomic<bool> g_stop{false};
std::atomic<int> g_wrong{0};

// Spins with known values in every register that 32-bit code has, the carry flag set, until `*stop` is not 0. Returns
// how many of them changed.
int spin_with_known_registers(const std::atomic<bool>* stop, unsigned seed) {
  int wrong = 0;
  asm volatile(
      "push %%ebp\n\t"
      "push %%ebx\n\t"
      "lea 1(%%eax), %%ebx\n\t lea 3(%%eax), %%edx\n\t lea 4(%%eax), %%ebp\n\t lea 5(%%eax), %%esi\n\t"
      "stc\n"
      "1:\n\t"
      "jnc 3f\n\t"  // nothing in this loop touches the carry flag
      "pause\n\t"
      "movzbl (%%edi), %%ecx\n\t"
      "inc %%cl\n\t dec %%cl\n\t"  // sets the zero flag and leaves the carry flag alone
      "jz 1b\n\t"
      "xor %%ecx, %%ecx\n\t"
      "jmp 5f\n"
      "3:\n\t"
      "mov $1000, %%ecx\n"
      "5:\n\t"
#define EXPECT(reg, n) "sub $" #n ", %%" #reg "\n\t cmp %%eax, %%" #reg "\n\t je 6f\n\t inc %%ecx\n6:\n\t"
      EXPECT(ebx, 1) EXPECT(edx, 3) EXPECT(ebp, 4) EXPECT(esi, 5)
#undef EXPECT
      "pop %%ebx\n\t"
      "pop %%ebp\n\t"
      : "=&c"(wrong), "+a"(seed)
      : "D"(stop)
      : "edx", "esi", "cc", "memory");
  return wrong;
}

struct Segments {
  unsigned short cs, ss, ds, es, fs, gs;
  bool operator==(const Segments&) const = default;
};
Segments segments() {
  Segments now;
  asm volatile("mov %%cs, %0\n\t mov %%ss, %1\n\t mov %%ds, %2\n\t mov %%es, %3\n\t mov %%fs, %4\n\t mov %%gs, %5"
               : "=m"(now.cs), "=m"(now.ss), "=m"(now.ds), "=m"(now.es), "=m"(now.fs), "=m"(now.gs));
  return now;
}

void* spinner(void* seed) {
  const Segments before = segments();
  ++g_running;
  g_wrong += spin_with_known_registers(&g_stop, reinterpret_cast<unsigned>(seed));
  CHECK(segments() == before);
  return nullptr;
}
}  // namespace

WORKLOAD("threads that compute in 32-bit code keep every register, the flags and their segments") {
  pthread_t threads[2];
  unsigned seed = 0x91223344;
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
