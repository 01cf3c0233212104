// bits: 32
#include <asm/ldt.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>

#include "tests/workloads/workload.h"

namespace {
constexpr int kThreads = 4;
sem_t g_ready, g_go;
int g_values[kThreads][4];

// A segment of one's own, reached through FS; the C library has taken one of the three for GS.
unsigned make_segment(const void* base) {
  user_desc segment{};
  segment.entry_number = static_cast<unsigned>(-1);  // the kernel chooses
  segment.base_addr = reinterpret_cast<unsigned>(base);
  segment.limit = 0xfffff;
  segment.seg_32bit = 1;
  segment.limit_in_pages = 1;
  segment.useable = 1;
  MUST(syscall(SYS_set_thread_area, &segment));
  return segment.entry_number;
}
user_desc segment_at(unsigned entry) {
  user_desc segment{};
  segment.entry_number = entry;
  MUST(syscall(SYS_get_thread_area, &segment));
  return segment;
}
int read_through_fs(unsigned offset) {
  int value = 0;
  asm volatile("mov %%fs:(%1), %0" : "=r"(value) : "r"(offset));
  return value;
}

void* body(void* argument) {
  const int number = reinterpret_cast<int>(argument);
  const unsigned entry = make_segment(g_values[number]);
  const unsigned short selector = static_cast<unsigned short>(entry << 3 | 3);
  asm volatile("mov %0, %%fs" : : "r"(selector));
  const user_desc before = segment_at(entry);
  sem_post(&g_ready);
  while (sem_wait(&g_go) != 0) {
  }
  for (unsigned i = 0; i < 4; ++i) CHECK_EQ(read_through_fs(i * sizeof(int)), 100 * number + static_cast<int>(i));
  const user_desc after = segment_at(entry);
  CHECK(memcmp(&before, &after, sizeof before) == 0);
  return nullptr;
}
}  // namespace

WORKLOAD("each thread of 32-bit code has its own TLS segments, and its segment registers name them") {
  sem_init(&g_ready, 0, 0);
  sem_init(&g_go, 0, 0);
  for (int i = 0; i < kThreads; ++i)
    for (int k = 0; k < 4; ++k) g_values[i][k] = 100 * i + k;
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i) CHECK_EQ(pthread_create(&threads[i], nullptr, body, reinterpret_cast<void*>(i)), 0);
  for (int i = 0; i < kThreads; ++i) MUST(sem_wait(&g_ready));
  workload::checkpoint_here();
  for (int i = 0; i < kThreads; ++i) sem_post(&g_go);
  for (pthread_t thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
}
