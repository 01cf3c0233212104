// flavours: namespaces
#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#include "tests/workloads/workload.h"

namespace {

struct Message {
  long type;
  char text[4000];
};

void send(int queue, long type, std::size_t bytes, unsigned seed) {
  Message message{};
  message.type = type;
  workload::fill_pattern(message.text, bytes, seed);
  MUST(msgsnd(queue, &message, bytes, IPC_NOWAIT));
}

bool receives(int queue, long wanted, long type, std::size_t bytes, unsigned seed) {
  Message message{};
  const ssize_t got = MUST(msgrcv(queue, &message, sizeof message.text, wanted, IPC_NOWAIT));
  return message.type == type && static_cast<std::size_t>(got) == bytes && workload::has_pattern(message.text, bytes, seed);
}

}  // namespace

WORKLOAD("System V objects keep owners, makers, modes and limits, also where they hold more than those allow by now") {
  const int queue = MUST(msgget(1, IPC_CREAT | IPC_EXCL | 0622));
  send(queue, 3, 4000, 1);
  send(queue, 1, 0, 2);
  send(queue, 3, 17, 3);
  send(queue, 2, 3000, 4);
  msqid_ds state{};
  MUST(msgctl(queue, IPC_STAT, &state));
  state.msg_qbytes = 1000;
  state.msg_perm.uid = 12;
  state.msg_perm.gid = 34;
  state.msg_perm.mode = 0602;
  MUST(msgctl(queue, IPC_SET, &state));

  // Ids that have gone round.
  MUST(semctl(MUST(semget(IPC_PRIVATE, 1, 0)), 0, IPC_RMID));
  MUST(semctl(MUST(semget(IPC_PRIVATE, 1, 0)), 0, IPC_RMID));
  MUST(seteuid(4321));
  const int set = MUST(semget(IPC_PRIVATE, 7, IPC_CREAT | 0640));
  MUST(seteuid(0));
  unsigned short values[7] = {0, 1, 2, 32767, 4, 5, 6};
  MUST(semctl(set, 0, SETALL, values));
  const int locked = MUST(shmget(IPC_PRIVATE, 5000, IPC_CREAT | 0600));
  MUST(shmctl(locked, SHM_LOCK, nullptr));

  workload::checkpoint_here();

  msqid_ds now{};
  MUST(msgctl(queue, IPC_STAT, &now));
  CHECK_EQ(now.msg_qnum, 4ul);
  CHECK_EQ(now.msg_qbytes, 1000ul);
  CHECK_EQ(now.msg_perm.uid, 12u);
  CHECK_EQ(now.msg_perm.gid, 34u);
  CHECK_EQ(now.msg_perm.mode, 0602u);
  CHECK(receives(queue, 2, 2, 3000, 4));
  CHECK(receives(queue, 0, 3, 4000, 1));
  CHECK(receives(queue, 0, 1, 0, 2));
  CHECK(receives(queue, 0, 3, 17, 3));
  semid_ds sets{};
  MUST(semctl(set, 0, IPC_STAT, &sets));
  CHECK_EQ(sets.sem_nsems, 7ul);
  CHECK_EQ(sets.sem_perm.cuid, 4321u);
  CHECK_EQ(sets.sem_perm.mode, 0640u);
  unsigned short kept[7]{};
  MUST(semctl(set, 0, GETALL, kept));
  CHECK_EQ(memcmp(kept, values, sizeof kept), 0);
  shmid_ds segment{};
  MUST(shmctl(locked, IPC_STAT, &segment));
  CHECK_EQ(segment.shm_segsz, 5000ul);
  CHECK(segment.shm_perm.mode & SHM_LOCKED);
  MUST(msgctl(queue, IPC_RMID, nullptr));
  MUST(semctl(set, 0, IPC_RMID));
  MUST(shmctl(locked, IPC_RMID, nullptr));
}
