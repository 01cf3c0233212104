#include <fcntl.h>
#include <sys/fanotify.h>
#include <unistd.h>

#include "tests/workloads/workload.h"

WORKLOAD("decides who may open a file") {
  const int fd = fanotify_init(FAN_CLASS_CONTENT | FAN_NONBLOCK, O_RDONLY);
  if (fd == -1) workload::skip("fanotify needs CAP_SYS_ADMIN");
  MUST(close(MUST(open("guarded", O_CREAT | O_WRONLY, 0644))));
  if (fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, "guarded") == -1)
    workload::skip("this kernel has no permission events");
  workload::checkpoint_here();
}
