#include <sys/mman.h>

#include "tests/workloads/smaps.h"

namespace {
constexpr size_t kPage = 4096, kPages = 4096, kBytes = kPage * kPages;  // 16 MiB: pages of so many are not copied one process after the other

// Kilobytes of [from, from + kBytes) that nobody else maps.
long alone(const char* from) {
  long total = 0;
  for (const char* at = from; at < from + kBytes; at += workload::smaps_kilobytes(at, "Size") * 1024)
    total += workload::smaps_kilobytes(at, "Private_Clean") + workload::smaps_kilobytes(at, "Private_Dirty");
  return total;
}
// A mapping that does not merge with its neighbours.
char* map(size_t bytes) {
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, bytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) + kPage;
  MUST(madvise(memory, bytes, MADV_NOHUGEPAGE));
  MUST(mprotect(memory, bytes, PROT_READ | PROT_WRITE));
  return memory;
}
// Each page has a content of its own.
void fill_pages(char* memory, size_t from, size_t to, uint32_t seed) {
  for (size_t i = from; i < to; ++i) workload::fill_pattern(memory + i * kPage, kPage, seed + static_cast<uint32_t>(i));
}
bool have_pages(const char* memory, size_t from, size_t to, uint32_t seed) {
  for (size_t i = from; i < to; ++i)
    if (!workload::has_pattern(memory + i * kPage, kPage, seed + static_cast<uint32_t>(i))) return false;
  return true;
}
constexpr uint32_t kCommon = 1, kOwn = 100'000, kMore = 200'000;
}  // namespace

WORKLOAD("megabytes that a family shares since its forks keep what each has changed, and stay shared otherwise") {
  char* memory = map(kBytes);
  char* more = map(16 * kPage);  // below it, as new mappings are
  CHECK(more < memory);
  fill_pages(memory, 0, kPages, kCommon);
  pid_t children[3];
  for (size_t i = 0; i < 3; ++i) {
    children[i] = workload::fork_child([=] {
      const size_t count = i + 1, own = count * 1001;
      // What one has more than the others stands before the rest in its page file.
      fill_pages(more, 0, count, kMore);
      fill_pages(memory, own, own + count, kOwn);
      MUST(mprotect(memory + 64 * kPage, 8 * kPage, PROT_NONE));
      workload::checkpoint_here();
      MUST(mprotect(memory + 64 * kPage, 8 * kPage, PROT_READ | PROT_WRITE));
      CHECK(have_pages(more, 0, count, kMore));
      CHECK(have_pages(memory, 0, own, kCommon));
      CHECK(have_pages(memory, own, own + count, kOwn));
      CHECK(have_pages(memory, own + count, kPages, kCommon));
      CHECK_EQ(alone(memory), static_cast<long>(count * kPage / 1024));
    });
  }
  workload::checkpoint_here();
  CHECK(have_pages(memory, 0, kPages, kCommon));
  for (const pid_t child : children) workload::join(child);
}
