// driver: --option=--file-locks
#include <fcntl.h>
#include <sys/file.h>

#include "tests/workloads/workload.h"

namespace {
int file_of(const char* name) {
  const int fd = MUST(open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  MUST(ftruncate(fd, 1000));
  return fd;
}
struct flock range(short type, off_t start, off_t length) {
  struct flock wanted{};
  wanted.l_type = type;
  wanted.l_start = start;
  wanted.l_len = length;
  return wanted;
}
void lock(int fd, short type, off_t start, off_t length) {
  struct flock wanted = range(type, start, length);
  MUST(fcntl(fd, F_OFD_SETLK, &wanted));
}
// The lock that stands in the way of one of that range through `fd`.
struct flock found(int fd, short type, off_t start, off_t length) {
  struct flock wanted = range(type, start, length);
  MUST(fcntl(fd, F_OFD_GETLK, &wanted));
  return wanted;
}
}  // namespace

WORKLOAD("locks of open files stay, whoever has them: ranges, shared and exclusive, inherited ones") {
  const int ranges = file_of("ranges"), only_childs = file_of("childs"), shared = file_of("shared");
  lock(ranges, F_WRLCK, 10, 20);
  lock(ranges, F_RDLCK, 50, 0);
  lock(only_childs, F_WRLCK, 0, 0);
  MUST(flock(shared, LOCK_SH));
  const int also_shared = MUST(open("shared", O_RDONLY));
  MUST(flock(also_shared, LOCK_SH));
  const int directory = MUST(open(".", O_RDONLY | O_DIRECTORY));
  MUST(flock(directory, LOCK_EX));
  const pid_t child = workload::fork_child([=] {
    MUST(close(shared));
    workload::checkpoint_here();
    CHECK_EQ(found(ranges, F_WRLCK, 0, 0).l_type, F_UNLCK);  // it is the same open file
    MUST(flock(directory, LOCK_EX | LOCK_NB));
  });
  MUST(close(only_childs));
  workload::checkpoint_here();
  const int other = MUST(open("ranges", O_RDWR)), childs = MUST(open("childs", O_RDWR));
  const struct flock written = found(other, F_RDLCK, 0, 40), read = found(other, F_WRLCK, 40, 100);
  CHECK_EQ(written.l_type, F_WRLCK);
  CHECK_EQ(written.l_start, 10);
  CHECK_EQ(written.l_len, 20);
  CHECK_EQ(read.l_type, F_RDLCK);
  CHECK_EQ(read.l_start, 50);
  CHECK_EQ(read.l_len, 0);
  CHECK_EQ(found(other, F_RDLCK, 60, 1).l_type, F_UNLCK);
  CHECK_EQ(found(childs, F_RDLCK, 0, 1).l_type, F_WRLCK);
  const int third = MUST(open("shared", O_RDWR)), elsewhere = MUST(open(".", O_RDONLY | O_DIRECTORY));
  MUST(flock(third, LOCK_SH | LOCK_NB));
  CHECK_EQ(flock(third, LOCK_EX | LOCK_NB), -1);
  CHECK_EQ(flock(elsewhere, LOCK_SH | LOCK_NB), -1);
  workload::join(child);
  CHECK_EQ(found(childs, F_RDLCK, 0, 1).l_type, F_UNLCK);  // gone with the child
  MUST(close(shared));
  CHECK_EQ(flock(third, LOCK_EX | LOCK_NB), -1);
  MUST(close(also_shared));
  MUST(flock(third, LOCK_EX | LOCK_NB));
}
