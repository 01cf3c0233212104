// A thousand threads: each computes, waits for all others, takes its neighbour's number, and again.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { kThreads = 1000, kRoundsPerWork = 300 };

static pthread_barrier_t g_barrier;
static int g_rounds, g_seed;
static uint64_t g_value[2][kThreads];
static _Thread_local uint64_t t_mine;

static void* compute(void* argument) {
  const int me = (int)(intptr_t)argument;
  t_mine = (uint64_t)(me + g_seed);
  for (int round = 0; round < g_rounds; ++round) {
    for (int i = 0; i < 10000; ++i) t_mine = t_mine * 6364136223846793005u + 1442695040888963407u;
    g_value[round % 2][me] = t_mine;
    pthread_barrier_wait(&g_barrier);
    t_mine ^= g_value[round % 2][(me + 1) % kThreads];
  }
  return (void*)(uintptr_t)t_mine;
}

int main(void) {
  g_rounds = kRoundsPerWork * atoi(getenv("WORK"));
  g_seed = kThreads * atoi(getenv("SEED"));
  pthread_t threads[kThreads];
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 65536);
  pthread_barrier_init(&g_barrier, NULL, kThreads);
  for (int i = 0; i < kThreads; ++i)
    if (pthread_create(&threads[i], &small, compute, (void*)(intptr_t)i) != 0) abort();
  uint64_t sum = 0;
  for (int i = 0; i < kThreads; ++i) {
    void* value = NULL;
    pthread_join(threads[i], &value);
    sum = sum * 31 + (uint64_t)(uintptr_t)value;
  }
  printf("%llx\n", (unsigned long long)sum);
}
