// driver: --moving
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>

#include "tests/workloads/workload.h"

// Every page tells in which round it was written last; at any instant those before the writer's position are of
// this round and the others of the last. A page from an older image is out of step, and the writer meets it.
namespace {
constexpr size_t kPage = 4096, kPages = 3000;
std::atomic<bool> g_stop{false};
std::atomic<uint64_t> g_rounds{0};

struct Pages {
  char* memory;
  size_t count;
  uint64_t& at(size_t page) const { return *reinterpret_cast<uint64_t*>(memory + page * kPage); }
  void step(uint64_t round) const {
    for (size_t page = 0; page < count; ++page) {
      CHECK_EQ(at(page), round - 1);
      at(page) = round;
    }
  }
  void all_are(uint64_t round) const {
    for (size_t page = 0; page < count; ++page) CHECK_EQ(at(page), round);
  }
};

char* fresh(size_t pages, void* where = nullptr) {
  return static_cast<char*>(MUST(mmap(where, pages * kPage, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | (where ? MAP_FIXED : 0), -1, 0)));
}

// A mapping that moves, so that a page may come to where another of the same age was.
void move(Pages& pages) {
  char* const hole = fresh(pages.count);
  MUST(mremap(pages.memory, pages.count * kPage, pages.count * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, hole));
  pages.memory = hole;
}

// Gone and made anew at the same place; and given back to the kernel, which hands out zeros.
void replace(const Pages& pages, uint64_t round) {
  if (round % 2) {
    CHECK_EQ(munmap(pages.memory, pages.count * kPage), 0);
    CHECK_EQ(fresh(pages.count, pages.memory), pages.memory);
  } else {
    CHECK_EQ(madvise(pages.memory, pages.count * kPage, MADV_DONTNEED), 0);
  }
  pages.all_are(0);
  for (size_t page = 0; page < pages.count; page += 2) pages.at(page) = round;
}

// The writer works on pages that a child shares, and the child sees what was there when it was born.
void fork_in_the_middle(const Pages& pages, uint64_t round) {
  const pid_t child = MUST(fork());
  if (child == 0) {
    pages.all_are(round);
    for (size_t page = 0; page < pages.count; ++page) pages.at(page) = ~round;
    _exit(0);
  }
  pages.step(round + 1);
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  pages.all_are(round + 1);
}

void* write_all_the_time(void*) {
  const Pages large{fresh(kPages), kPages}, replaced{fresh(64), 64}, shared{fresh(64), 64}, readonly{fresh(64), 64};
  Pages moving{fresh(64), 64};
  for (uint64_t round = 1; !g_stop; ++round) {
    large.step(round);
    moving.step(round);
    move(moving);
    for (size_t page = 0; round > 1 && page < replaced.count; ++page)
      CHECK_EQ(replaced.at(page), page % 2 ? 0 : round - 1);
    replace(replaced, round);
    if (round % 8 == 0) fork_in_the_middle(shared, 2 * (round / 8) - 2);
    if (round % 8 == 0) shared.step(2 * (round / 8));
    MUST(mprotect(readonly.memory, 64 * kPage, PROT_READ | PROT_WRITE));
    readonly.step(round);
    MUST(mprotect(readonly.memory, 64 * kPage, round % 3 ? PROT_READ : PROT_NONE));
    g_rounds = round;
    usleep(500);
  }
  return nullptr;
}
}  // namespace

WORKLOAD("memory that is written, moved, given back and shared all the time is of one moment afterwards") {
  pthread_t writer;
  CHECK_EQ(pthread_create(&writer, nullptr, write_all_the_time, nullptr), 0);
  while (g_rounds < 3) usleep(100);
  const uint64_t before = g_rounds;
  workload::checkpoint_here();
  const uint64_t seen = g_rounds;
  while (g_rounds < seen + 3) usleep(100);
  CHECK(seen >= before);
  g_stop = true;
  CHECK_EQ(pthread_join(writer, nullptr), 0);
}
