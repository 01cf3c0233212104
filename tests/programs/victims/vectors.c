// Parallel loops whose vectors fill the widest registers that the processor has (-march=native).
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { kSize = 1 << 16, kRoundsPerWork = 100000 };

int main(void) {
  const int rounds = kRoundsPerWork * atoi(getenv("WORK"));
  const int seed = atoi(getenv("SEED"));
  float* a = aligned_alloc(64, kSize * sizeof *a);
  uint32_t* b = aligned_alloc(64, kSize * sizeof *b);
  for (int i = 0; i < kSize; ++i) {
    a[i] = (float)i / kSize;
    b[i] = (uint32_t)(i + seed);
  }
  omp_set_dynamic(0);
#pragma omp parallel num_threads(4)
  for (int round = 0; round < rounds; ++round) {
#pragma omp for simd schedule(static)
    for (int i = 0; i < kSize; ++i) {
      a[i] = a[i] * (1.0f - a[i]) * 3.7f + 1e-7f;
      b[i] = (b[i] ^ (b[i] << 13)) * 2654435761u + (uint32_t)round;
    }
  }
  double sum = 0;
  uint64_t hash = 0;
  for (int i = 0; i < kSize; ++i) {
    sum += a[i];
    hash = hash * 31 + b[i];
  }
  printf("%.17g %llx\n", sum, (unsigned long long)hash);
}
