#include <fcntl.h>

#include "tests/workloads/workload.h"

WORKLOAD("open files keep their descriptor numbers, offsets, access modes and status flags") {
  const int plain = MUST(open("plain", O_RDWR | O_CREAT | O_TRUNC, 0644));
  MUST(write(plain, "0123456789", 10));
  MUST(lseek(plain, 4, SEEK_SET));
  const int appending = MUST(open("log", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOATIME, 0644));
  MUST(write(appending, "first ", 6));
  const int reading = MUST(open("plain", O_RDONLY));
  MUST(lseek(reading, 8, SEEK_SET));
  const int by_path = MUST(open("plain", O_PATH | O_CLOEXEC));
  const int far = MUST(fcntl(reading, F_DUPFD, 500));
  const int gone = MUST(open("plain", O_RDONLY));
  MUST(close(gone));

  workload::checkpoint_here();

  CHECK_EQ(MUST(lseek(plain, 0, SEEK_CUR)), 4);
  CHECK_EQ(fcntl(plain, F_GETFL) & (O_ACCMODE | O_APPEND), O_RDWR);
  CHECK_EQ(fcntl(appending, F_GETFL) & (O_ACCMODE | O_APPEND | O_NOATIME), O_WRONLY | O_APPEND | O_NOATIME);
  CHECK_EQ(fcntl(by_path, F_GETFL) & O_PATH, O_PATH);
  char got[16] = {};
  CHECK_EQ(MUST(read(plain, got, 3)), 3);
  CHECK_EQ(got, "456");
  CHECK_EQ(MUST(read(reading, got, 1)), 1);
  CHECK_EQ(got[0], '8');
  CHECK_EQ(MUST(read(far, got, 1)), 1);  // one open file under two numbers: one offset
  CHECK_EQ(got[0], '9');
  CHECK_EQ(write(reading, "x", 1), -1);
  CHECK_EQ(fcntl(gone, F_GETFD), -1);
  MUST(write(appending, "second", 6));
  const int log = MUST(open("log", O_RDONLY));
  memset(got, 0, sizeof got);
  CHECK_EQ(MUST(read(log, got, 12)), 12);
  CHECK_EQ(got, "first second");
}
