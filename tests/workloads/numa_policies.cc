#include <linux/mempolicy.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <atomic>

#include "tests/workloads/workload.h"

namespace {

constexpr unsigned long kMaxNode = 1024, kGiven = 65;  // what is read, what one word has
std::atomic<int> g_stage{0};

struct Policy {
  int mode = -1;
  unsigned long nodes[kMaxNode / 64] = {};
};
Policy of(const void* address) {
  Policy policy;
  MUST(syscall(SYS_get_mempolicy, &policy.mode, policy.nodes, kMaxNode, address, address ? MPOL_F_ADDR : 0));
  return policy;
}
void check(const Policy& policy, int mode, unsigned long nodes) {
  CHECK_EQ(policy.mode, mode);
  CHECK_EQ(policy.nodes[0], nodes);
}

char* bound(int mode, unsigned long nodes, int kind = MAP_PRIVATE) {
  auto* memory = static_cast<char*>(MUST(mmap(nullptr, 4 * 4096, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0)));
  memory[0] = 'm';
  if (mode >= 0) MUST(syscall(SYS_mbind, memory, 4 * 4096, mode, &nodes, kGiven, 0));
  return memory;
}

void* body(void*) {
  unsigned long nodes = 1;
  MUST(syscall(SYS_set_mempolicy, MPOL_BIND | MPOL_F_STATIC_NODES, &nodes, kGiven));
  g_stage = 1;
  while (g_stage == 1) usleep(1000);
  check(of(nullptr), MPOL_BIND | MPOL_F_STATIC_NODES, 1);
  return nullptr;
}

}  // namespace

WORKLOAD("memory policies stay: those of threads, each its own, and those of mappings, also in a child") {
  int mode = 0;
  if (syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 0) != 0 && errno == ENOSYS)
    workload::skip("this kernel is for machines with one node");
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, nullptr, body, nullptr), 0);
  while (g_stage == 0) usleep(100);
  unsigned long nodes = 1;
  MUST(syscall(SYS_set_mempolicy, MPOL_PREFERRED, &nodes, kGiven));
  char* const alone = bound(MPOL_BIND, 1);
  char* const dealt = bound(MPOL_INTERLEAVE | MPOL_F_STATIC_NODES, 1);
  char* const shared = bound(MPOL_BIND, 1, MAP_SHARED);
  char* const near = bound(MPOL_LOCAL, 0);
  char* const plain = bound(-1, 0);
  const auto check_all = [&](int bound_as) {
    check(of(alone), bound_as, bound_as == MPOL_BIND ? 1 : 0);
    check(of(dealt), MPOL_INTERLEAVE | MPOL_F_STATIC_NODES, 1);
    check(of(shared), MPOL_BIND, 1);
    check(of(near), MPOL_LOCAL, 0);
    check(of(plain), MPOL_DEFAULT, 0);
  };
  check_all(MPOL_BIND);
  const pid_t child = workload::fork_child([&] {
    MUST(syscall(SYS_mbind, alone, 4 * 4096, MPOL_DEFAULT, nullptr, 0, 0));
    MUST(syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0));
    workload::checkpoint_here();
    check_all(MPOL_DEFAULT);
    check(of(nullptr), MPOL_DEFAULT, 0);
  });
  workload::checkpoint_here();
  check_all(MPOL_BIND);
  check(of(nullptr), MPOL_PREFERRED, 1);
  g_stage = 2;
  CHECK_EQ(pthread_join(thread, nullptr), 0);
  workload::join(child);
}
