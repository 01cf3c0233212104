#include <fcntl.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "tests/workloads/workload.h"

namespace {
constexpr const char* kKinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts", "pid_for_children"};
constexpr int kCount = sizeof kKinds / sizeof *kKinds;

int open_one(const char* kind, int flags) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
  return MUST(open(path, flags));
}
ino_t inode(int fd) {
  struct stat status{};
  MUST(fstat(fd, &status));
  return status.st_ino;
}
}  // namespace

WORKLOAD("descriptors of the namespaces that processes live in are still of those") {
  int files[kCount];
  for (int i = 0; i < kCount; ++i) files[i] = open_one(kKinds[i], i == 0 ? O_RDONLY | O_CLOEXEC : O_RDONLY);
  const int path_only = open_one("net", O_PATH);
  const pid_t child = workload::fork_child([&] {
    workload::checkpoint_here();
    CHECK_EQ(inode(files[3]), inode(open_one("net", O_RDONLY)));
  });
  workload::checkpoint_here();
  for (int i = 0; i < kCount; ++i) {
    CHECK_EQ(inode(files[i]), inode(open_one(kKinds[i], O_RDONLY)));
    CHECK(MUST(ioctl(files[i], NS_GET_NSTYPE)) != 0);
  }
  CHECK_EQ(inode(path_only), inode(files[3]));
  workload::join(child);
}
