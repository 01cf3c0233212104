#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {
std::atomic<int> g_running{0};
std::atomic<bool> g_stop{false};

struct alignas(64) Vectors {
  unsigned char bytes[32][64];
};

// Each of these loads the registers of one set, spins until `*stop`, and stores them.
void spin_with_sse(const Vectors& in, Vectors& out, const std::atomic<bool>* stop) {
#define LOAD(n) "movups " #n "*64(%[in]), %%xmm" #n "\n\t"
#define STORE(n) "movups %%xmm" #n ", " #n "*64(%[out])\n\t"
#define SIXTEEN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
  asm volatile(SIXTEEN(LOAD) "1: pause\n\t cmpb $0, (%[stop])\n\t je 1b\n\t" SIXTEEN(STORE)
               : : [in] "r"(&in), [out] "r"(&out), [stop] "r"(stop) : "memory", "cc",
                 "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
#undef LOAD
#undef STORE
}

[[gnu::target("avx")]] void spin_with_avx(const Vectors& in, Vectors& out, const std::atomic<bool>* stop) {
#define LOAD(n) "vmovups " #n "*64(%[in]), %%ymm" #n "\n\t"
#define STORE(n) "vmovups %%ymm" #n ", " #n "*64(%[out])\n\t"
  asm volatile(SIXTEEN(LOAD) "1: pause\n\t cmpb $0, (%[stop])\n\t je 1b\n\t" SIXTEEN(STORE) "vzeroupper\n\t"
               : : [in] "r"(&in), [out] "r"(&out), [stop] "r"(stop) : "memory", "cc",
                 "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
#undef LOAD
#undef STORE
}

[[gnu::target("avx512f,avx512bw")]] void spin_with_avx512(const Vectors& in, Vectors& out, const std::atomic<bool>* stop) {
#define LOAD(n) "vmovups " #n "*64(%[in]), %%zmm" #n "\n\t"
#define STORE(n) "vmovups %%zmm" #n ", " #n "*64(%[out])\n\t"
#define UPPER(X) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30)
  // The last row carries the mask registers.
  asm volatile(SIXTEEN(LOAD) UPPER(LOAD) "kmovq 31*64(%[in]), %%k1\n\t kmovq 31*64+8(%[in]), %%k7\n\t"
               "1: pause\n\t cmpb $0, (%[stop])\n\t je 1b\n\t"
               SIXTEEN(STORE) UPPER(STORE) "kmovq %%k1, 31*64(%[out])\n\t kmovq %%k7, 31*64+8(%[out])\n\t vzeroupper\n\t"
               : : [in] "r"(&in), [out] "r"(&out), [stop] "r"(stop) : "memory", "cc", "k1", "k7",
                 "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
                 "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30");
#undef LOAD
#undef STORE
}

struct Job {
  void (*spin)(const Vectors&, Vectors&, const std::atomic<bool>*);
  int rows, row_bytes;
  uint32_t seed;
};

void* spinner(void* argument) {
  const Job& job = *static_cast<Job*>(argument);
  Vectors in{}, out{};
  workload::fill_pattern(&in, sizeof in, job.seed);
  // Control words away from their defaults: x87 rounds towards zero, SSE flushes to zero.
  const uint16_t x87 = 0x0f7f;
  const uint32_t mxcsr = 0x9fc0;
  uint16_t x87_after = 0;
  uint32_t mxcsr_after = 0;
  double pi_after = 0;
  asm volatile("fldcw %0\n\t ldmxcsr %1\n\t fldpi" : : "m"(x87), "m"(mxcsr));
  ++g_running;
  job.spin(in, out, &g_stop);
  asm volatile("fstpl %0\n\t fnstcw %1\n\t stmxcsr %2" : "=m"(pi_after), "=m"(x87_after), "=m"(mxcsr_after));
  const uint32_t mxcsr_default = 0x1f80;
  asm volatile("fninit\n\t ldmxcsr %0" : : "m"(mxcsr_default));
  for (int row = 0; row < job.rows; ++row) CHECK(memcmp(in.bytes[row], out.bytes[row], job.row_bytes) == 0);
  if (job.rows == 31) CHECK(memcmp(in.bytes[31], out.bytes[31], 16) == 0);
  CHECK_EQ(x87_after, x87);
  CHECK_EQ(mxcsr_after & 0xffc0, mxcsr);
  CHECK(pi_after > 3.14159 && pi_after < 3.1416);
  return nullptr;
}
}  // namespace

WORKLOAD("x87, SSE, AVX and AVX-512 registers and their control words stay, each in its thread") {
  Job jobs[] = {{spin_with_sse, 16, 16, 1}, {spin_with_avx, 16, 32, 2}, {spin_with_avx512, 31, 64, 3}};
  int count = 1;
  if (__builtin_cpu_supports("avx")) count = 2;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) count = 3;
  pthread_t threads[3];
  for (int i = 0; i < count; ++i) CHECK_EQ(pthread_create(&threads[i], nullptr, spinner, &jobs[i]), 0);
  while (g_running < count) usleep(100);
  workload::checkpoint_here();
  g_stop = true;
  for (int i = 0; i < count; ++i) CHECK_EQ(pthread_join(threads[i], nullptr), 0);
}
