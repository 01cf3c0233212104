// flavours: namespaces
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#include "tests/workloads/workload.h"

WORKLOAD("System V shared memory, semaphores and message queues keep ids, keys and content") {
  const int memory_id = MUST(shmget(0x4711, 3 * 4096, IPC_CREAT | IPC_EXCL | 0600));
  auto* memory = static_cast<char*>(MUST(shmat(memory_id, nullptr, 0)));
  workload::fill_pattern(memory, 4096, 1);
  const int semaphore = MUST(semget(0x4712, 2, IPC_CREAT | IPC_EXCL | 0600));
  MUST(semctl(semaphore, 1, SETVAL, 5));
  const int queue = MUST(msgget(0x4713, IPC_CREAT | IPC_EXCL | 0600));
  struct {
    long type;
    char text[8];
  } message{9, "message"};
  MUST(msgsnd(queue, &message, sizeof message.text, 0));
  workload::checkpoint_here();
  CHECK(workload::has_pattern(memory, 4096, 1));
  CHECK_EQ(shmget(0x4711, 0, 0), memory_id);
  CHECK_EQ(semget(0x4712, 0, 0), semaphore);
  CHECK_EQ(msgget(0x4713, 0), queue);
  CHECK_EQ(semctl(semaphore, 1, GETVAL), 5);
  memset(&message, 0, sizeof message);
  MUST(msgrcv(queue, &message, sizeof message.text, 9, IPC_NOWAIT));
  CHECK_EQ(message.text, "message");
  shmctl(memory_id, IPC_RMID, nullptr);
  semctl(semaphore, 0, IPC_RMID);
  msgctl(queue, IPC_RMID, nullptr);
}
