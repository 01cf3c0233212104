#include <sys/ipc.h>
#include <sys/shm.h>

#include "tests/workloads/workload.h"

WORKLOAD("has memory of the node's ipc namespace attached") {
  const int id = MUST(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
  MUST(shmat(id, nullptr, 0));
  MUST(shmctl(id, IPC_RMID, nullptr));
  workload::checkpoint_here();
}
