// $BENCH_MIB of pages that neither compress nor repeat, in huge pages if $BENCH_HUGE is 1; a thread looks
// at the clock all the time and writes the longest gap it saw to the file "pause" (nanoseconds). With
// $BENCH_WRITE another one writes that many MiB a second, going round in the memory.
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {

std::atomic<bool> g_stop{false};
std::atomic<int64_t> g_longest_gap{0};

void* watch_the_clock(void*) {
  timespec t{};
  int64_t last = 0;
  while (!g_stop) {
    clock_gettime(CLOCK_MONOTONIC, &t);
    const int64_t now = t.tv_sec * 1'000'000'000LL + t.tv_nsec;
    if (last != 0 && now - last > g_longest_gap) g_longest_gap = now - last;
    last = now;
    usleep(50);
  }
  return nullptr;
}

struct Written {
  char* memory;
  size_t bytes, bytes_per_ms;
};

void* write_steadily(void* argument) {
  constexpr size_t kPage = 4096;
  const auto& to = *static_cast<Written*>(argument);
  size_t at = 0;
  while (!g_stop) {
    for (size_t done = 0; done < to.bytes_per_ms; done += kPage, at = (at + kPage) % to.bytes) to.memory[at] ^= 1;
    usleep(1000);
  }
  return nullptr;
}

}  // namespace

WORKLOAD("much memory, for measurements") {
  const size_t bytes = static_cast<size_t>(atoi(getenv("BENCH_MIB"))) << 20;
  const bool huge = atoi(getenv("BENCH_HUGE")) == 1;
  constexpr size_t kHuge = 2 << 20;
  auto* room = static_cast<char*>(MUST(mmap(nullptr, bytes + kHuge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)));
  auto* start = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(room) + kHuge - 1) & ~(kHuge - 1));
  auto* memory = static_cast<char*>(MUST(mmap(start, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)));
  MUST(madvise(memory, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE));
  workload::fill_pattern(memory, bytes, 1);
  pthread_t watcher;
  const bool watch = getenv("BENCH_WATCH") != nullptr;
  if (watch) CHECK_EQ(pthread_create(&watcher, nullptr, watch_the_clock, nullptr), 0);
  pthread_t writer;
  const char* rate = getenv("BENCH_WRITE");
  Written written{memory, bytes, rate ? static_cast<size_t>(atoi(rate)) * 1048 : 0};
  if (rate) CHECK_EQ(pthread_create(&writer, nullptr, write_steadily, &written), 0);
  workload::checkpoint_here();
  g_stop = true;
  if (rate) CHECK_EQ(pthread_join(writer, nullptr), 0);
  if (watch) {
    CHECK_EQ(pthread_join(watcher, nullptr), 0);
    FILE* file = MUST(fopen("pause", "we"));
    fprintf(file, "%lld\n", static_cast<long long>(g_longest_gap));
    fclose(file);
  }
  if (getenv("BENCH_CHECK")) CHECK(workload::has_pattern(memory, bytes, 1));
}
