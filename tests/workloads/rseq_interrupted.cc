#include <pthread.h>
#include <sched.h>
#include <sys/rseq.h>

#include "tests/workloads/workload.h"

// A thread is in a restartable sequence that ends by itself only when it is told to. Whoever interrupts it must send it to its
// abort handler: else the sequence would end on another processor than it began on.
#if defined(__x86_64__)
namespace {

struct Shared {
  volatile uint64_t go, entered, committed;
  volatile uint32_t began_on, ended_on;
} g_shared;

void* body(void*) {
  auto* area = reinterpret_cast<struct rseq*>(static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
  // Enters; spins until told to go; commits. The abort handler enters anew.
  asm volatile(
      "jmp 3f\n"
      ".pushsection __rseq_cs_here, \"aw\"\n"
      ".balign 32\n"
      "9: .long 0, 0\n"
      ".quad 1f, 2f - 1f, 3f\n"
      ".popsection\n"
      "   .byte 0x0f, 0xb9, 0x3d\n"  // ud1, with the signature as its operand
      "   .long 0x53053053\n"
      "3: lea 9b(%%rip), %%rax\n"
      "   lock incq %[entered]\n"
      "   mov %%rax, %[record]\n"
      "1: mov %[cpu], %%ecx\n"
      "4: pause\n"
      "   cmpq $0, %[go]\n"
      "   je 4b\n"
      "   mov %%ecx, %[began]\n"
      "   mov %[cpu], %%ecx\n"
      "   mov %%ecx, %[ended]\n"
      "   incq %[committed]\n"
      "2:\n"
      : [entered] "+m"(g_shared.entered), [committed] "+m"(g_shared.committed), [record] "=m"(area->rseq_cs),
        [began] "=m"(g_shared.began_on), [ended] "=m"(g_shared.ended_on)
      : [go] "m"(g_shared.go), [cpu] "m"(area->cpu_id)
      : "rax", "rcx", "memory", "cc");
  return nullptr;
}

void move_to(pthread_t thread, int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  CHECK_EQ(pthread_setaffinity_np(thread, sizeof one, &one), 0);
}

}  // namespace

WORKLOAD("a thread that is stopped inside a restartable sequence goes on at its abort handler") {
  if (__rseq_size == 0) workload::skip("libc did not register rseq");
  cpu_set_t allowed;
  MUST(sched_getaffinity(0, sizeof allowed, &allowed));
  int cpus[2], count = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE && count < 2; ++cpu)
    if (CPU_ISSET(cpu, &allowed)) cpus[count++] = cpu;
  if (count < 2) workload::skip("there is only one processor");
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  move_to(thread, cpus[0]);
  while (g_shared.entered == 0) usleep(100);
  workload::checkpoint_here();
  CHECK_EQ(g_shared.committed, 0u);
  move_to(thread, cpus[1]);
  g_shared.go = 1;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
  CHECK_EQ(g_shared.committed, 1u);
  CHECK_EQ(g_shared.began_on, g_shared.ended_on);
}
#endif
