#include <fcntl.h>
#include <sys/fanotify.h>

#include "tests/workloads/workload.h"

WORKLOAD("is told of what happens in a whole file system") {
  const int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY);
  if (fd == -1) workload::skip("fanotify needs CAP_SYS_ADMIN");
  MUST(fanotify_mark(fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN_EXEC, AT_FDCWD, "."));
  workload::checkpoint_here();
}
