#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "tests/workloads/workload.h"

// What /proc calls memory of the kernel's own making is there a deleted file of such a name, too: in a tmpfs where
// the workload may mount one.
namespace {

struct File {
  const char *folder, *name;
  int fd;
  char *shared, *own;
};
File files[] = {{"/memfd:folder", "/memfd:folder/file", -1, nullptr, nullptr},
                {"/SYSV00000000", "/SYSV00000000/file", -1, nullptr, nullptr},
                {"/[aio]", "/[aio]/file", -1, nullptr, nullptr},
                {"/anon_hugepage", "/anon_hugepage/file", -1, nullptr, nullptr}};
constexpr size_t kBytes = 3 * 4096;

bool is_alone() { return access("/workload", X_OK) == 0 && access("/init", X_OK) == 0; }

void make(File& file) {
  const char* name = file.name + 1;
  if (is_alone()) {
    MUST(mkdir(file.folder, 0755));
    MUST(mount("tmpfs", file.folder, "tmpfs", 0, "size=1m"));
    name = file.name;
  } else {
    MUST(mkdir(file.folder + 1, 0755));
  }
  file.fd = MUST(open(name, O_RDWR | O_CREAT | O_EXCL, 0600));
  MUST(ftruncate(file.fd, kBytes));
  file.shared = static_cast<char*>(MUST(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0)));
  file.own = static_cast<char*>(MUST(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, file.fd, 0)));
  workload::fill_pattern(file.shared, kBytes, 7);
  workload::fill_pattern(file.own, 4096, 8);
  MUST(unlink(name));
}

}  // namespace

WORKLOAD("deleted files that are named like memory are files, in a tmpfs as well") {
  for (File& file : files) make(file);
  workload::checkpoint_here();
  for (const File& file : files) {
    CHECK(workload::has_pattern(file.shared, kBytes, 7));
    CHECK(workload::has_pattern(file.own, 4096, 8));
    CHECK(memcmp(file.own + 4096, file.shared + 4096, kBytes - 4096) == 0);
    struct stat status{};
    MUST(fstat(file.fd, &status));
    CHECK_EQ(status.st_nlink, 0u);
    CHECK_EQ(status.st_size, static_cast<off_t>(kBytes));
    MUST(pwrite(file.fd, "written", 7, 100));
    CHECK(memcmp(file.shared + 100, "written", 7) == 0);
    const int again = open(is_alone() ? file.folder : file.folder + 1, O_RDONLY | O_DIRECTORY);
    struct stat folder{};
    MUST(fstat(MUST(again), &folder));
    CHECK_EQ(folder.st_dev, status.st_dev);
  }
}
