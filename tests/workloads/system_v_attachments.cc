// flavours: namespaces
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>

#include "tests/workloads/workload.h"

namespace {

constexpr std::size_t kPage = 4096;

std::size_t attached(int id) {
  shmid_ds state{};
  MUST(shmctl(id, IPC_STAT, &state));
  return state.shm_nattch;
}

}  // namespace

WORKLOAD("attached System V memory stays attached: whole, in pieces, moved, read-only, and after its removal") {
  const int id = MUST(shmget(IPC_PRIVATE, 8 * kPage - 100, IPC_CREAT | 0640));
  // Detached, with a hole in it.
  const int idle = MUST(shmget(77, 64 * kPage, IPC_CREAT | IPC_EXCL | 0600));
  auto* const visit = static_cast<char*>(MUST(shmat(idle, nullptr, 0)));
  workload::fill_pattern(visit + 33 * kPage, kPage, 5);
  MUST(shmdt(visit));

  auto* const whole = static_cast<char*>(MUST(shmat(id, nullptr, 0)));
  for (int i = 0; i < 8; ++i) workload::fill_pattern(whole + i * kPage, kPage, static_cast<unsigned>(i));
  auto* const read_only = static_cast<char*>(MUST(shmat(id, nullptr, SHM_RDONLY)));
  // Pieces: pages 1, 2 (without any access), 5; page 7 goes elsewhere.
  auto* const cut = static_cast<char*>(MUST(shmat(id, nullptr, 0)));
  MUST(munmap(cut, kPage));
  MUST(munmap(cut + 3 * kPage, 2 * kPage));
  MUST(mprotect(cut + 2 * kPage, kPage, PROT_NONE));
  auto* const elsewhere = static_cast<char*>(MUST(mmap(nullptr, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  MUST(mremap(cut + 7 * kPage, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere));
  MUST(munmap(cut + 6 * kPage, kPage));
  MUST(shmctl(id, IPC_RMID, nullptr));
  const std::size_t before = attached(id);

  const pid_t child = workload::fork_child([&] {
    workload::checkpoint_here();
    CHECK(workload::has_pattern(cut + 5 * kPage, kPage, 5));
    whole[3 * kPage] = 'c';
  });
  CHECK_EQ(attached(id), 2 * before);
  workload::checkpoint_here();
  workload::join(child);
  CHECK_EQ(attached(id), before);
  CHECK_EQ(whole[3 * kPage], 'c');
  CHECK_EQ(read_only[3 * kPage], 'c');
  CHECK(workload::has_pattern(read_only + 7 * kPage, kPage, 7));  // behind the segment's last byte too
  CHECK_EQ(mprotect(read_only, kPage, PROT_READ | PROT_WRITE), -1);
  CHECK(workload::has_pattern(elsewhere, kPage, 7));
  MUST(mprotect(cut + 2 * kPage, kPage, PROT_READ));
  CHECK(workload::has_pattern(cut + 2 * kPage, kPage, 2));
  // One call takes away what is left in place of one attachment; the piece that went away has no place there.
  MUST(shmdt(cut));
  CHECK_EQ(mprotect(cut + 5 * kPage, kPage, PROT_READ), -1);
  MUST(shmdt(whole));
  MUST(shmdt(read_only));
  MUST(munmap(elsewhere, kPage));
  shmid_ds gone{};
  CHECK_EQ(shmctl(id, IPC_STAT, &gone), -1);

  auto* const again = static_cast<char*>(MUST(shmat(shmget(77, 0, 0), nullptr, 0)));
  CHECK(workload::has_pattern(again + 33 * kPage, kPage, 5));
  CHECK_EQ(again[32 * kPage], 0);
  MUST(shmdt(again));
  MUST(shmctl(idle, IPC_RMID, nullptr));
}
