#include <fcntl.h>
#include <sys/stat.h>

#include "tests/workloads/workload.h"

WORKLOAD("umask, working directory and root directory stay, each process its own") {
  MUST(mkdir("inner", 0755));
  MUST(mkdir("inner/deep", 0755));
  const int witness = MUST(open("inner/deep/witness", O_CREAT | O_WRONLY, 0644));
  close(witness);
  const pid_t child = workload::fork_child([] {
    MUST(chdir("inner"));
    MUST(chroot("."));
    MUST(chdir("deep"));
    umask(0077);
    workload::set_directory("/");
    workload::checkpoint_here();
    MUST(access("/deep/witness", F_OK));
    MUST(access("witness", F_OK));
    char path[256];
    CHECK_EQ(getcwd(path, sizeof path) ? path : "", "/deep");
    CHECK_EQ(umask(0), 0077u);
  });
  umask(0027);
  workload::checkpoint_here();
  CHECK_EQ(umask(0), 0027u);
  MUST(access("inner/deep/witness", F_OK));
  char path[4096];
  CHECK_EQ(getcwd(path, sizeof path) ? path : "", workload::directory());
  workload::join(child);
}
