// $BENCH_COUNT of what $BENCH_KIND says: threads, processes, mappings, or (kind "cow") processes that share
// $BENCH_MIB of pages as fork leaves them.
#include <pthread.h>
#include <sys/mman.h>

#include <string_view>
#include <vector>

#include "tests/workloads/mappings.h"

namespace {

pthread_barrier_t g_barrier;

void* wait_twice(void*) {
  pthread_barrier_wait(&g_barrier);  // all are there
  pthread_barrier_wait(&g_barrier);  // all may go
  return nullptr;
}

void with_threads(unsigned count) {
  pthread_attr_t small;
  CHECK_EQ(pthread_attr_init(&small), 0);
  CHECK_EQ(pthread_attr_setstacksize(&small, 65536), 0);
  CHECK_EQ(pthread_barrier_init(&g_barrier, nullptr, count + 1), 0);
  std::vector<pthread_t> threads(count);
  for (pthread_t& thread : threads) CHECK_EQ(pthread_create(&thread, &small, wait_twice, nullptr), 0);
  pthread_barrier_wait(&g_barrier);
  workload::checkpoint_here();
  pthread_barrier_wait(&g_barrier);
  for (const pthread_t thread : threads) CHECK_EQ(pthread_join(thread, nullptr), 0);
}

// All children of the first process, which is one more.
template <class Check>
void with_processes(unsigned count, Check check) {
  std::vector<pid_t> children(count - 1);
  for (pid_t& child : children)
    child = workload::fork_child([&] {
      workload::checkpoint_here();
      check();
    });
  workload::checkpoint_here();
  check();
  for (const pid_t child : children) workload::join(child);
}

void with_mappings(unsigned count) {
  const char* memory = workload::make_mappings(count);
  workload::checkpoint_here();
  workload::expect_mappings(memory, count);
}

void with_shared_pages(unsigned count) {
  const size_t bytes = static_cast<size_t>(atoi(getenv("BENCH_MIB"))) << 20;
  void* memory = MUST(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  workload::fill_pattern(memory, bytes, 1);
  with_processes(count, [&] { CHECK(workload::has_pattern(memory, bytes, 1)); });
}

}  // namespace

WORKLOAD("many of a kind, for measurements") {
  const std::string_view kind = getenv("BENCH_KIND");
  const auto count = static_cast<unsigned>(atoi(getenv("BENCH_COUNT")));
  if (kind == "threads") return with_threads(count);
  if (kind == "processes") return with_processes(count, [] {});
  if (kind == "mappings") return with_mappings(count);
  if (kind == "cow") return with_shared_pages(count);
  CHECK(false);
}
