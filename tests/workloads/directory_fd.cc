#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/workloads/workload.h"

WORKLOAD("an open directory still leads to its files") {
  MUST(mkdir("folder", 0755));
  const int directory = MUST(open("folder", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const int file = MUST(openat(directory, "inside", O_CREAT | O_WRONLY, 0644));
  MUST(close(file));
  workload::checkpoint_here();
  struct stat status{};
  MUST(fstat(directory, &status));
  CHECK(S_ISDIR(status.st_mode));
  MUST(faccessat(directory, "inside", F_OK, 0));
  DIR* listing = MUST(fdopendir(directory));
  int names = 0;
  while (const dirent* entry = readdir(listing)) names += entry->d_name[0] != '.';
  CHECK_EQ(names, 1);
}
