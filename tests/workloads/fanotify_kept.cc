#include <fcntl.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/workloads/workload.h"

namespace {

int notifier() {
  const int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC | FAN_UNLIMITED_QUEUE, O_RDONLY | O_CLOEXEC);
  if (fd == -1) workload::skip("fanotify needs CAP_SYS_ADMIN");
  return fd;
}

// What this process has done so far, all events together; other processes do things to a mount, too.
uint64_t own_events(int fd) {
  alignas(fanotify_event_metadata) char buffer[4096];
  uint64_t events = 0;
  for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;)
    for (auto* event = reinterpret_cast<fanotify_event_metadata*>(buffer); FAN_EVENT_OK(event, got); event = FAN_EVENT_NEXT(event, got)) {
      if (event->pid == getpid()) events |= event->mask;
      if (event->fd >= 0) MUST(close(event->fd));
    }
  return events;
}

}  // namespace

WORKLOAD("a fanotify group keeps its marks of files, directories and mounts, and what it ignores") {
  const int file = MUST(open("watched", O_CREAT | O_RDWR, 0644));
  const int deleted = MUST(open("deleted", O_CREAT | O_RDWR, 0644));
  MUST(mkdir("place", 0755));
  const int inodes = notifier(), mounts = notifier();
  MUST(fanotify_mark(inodes, FAN_MARK_ADD, FAN_MODIFY | FAN_ACCESS, AT_FDCWD, "watched"));
  MUST(fanotify_mark(inodes, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_ACCESS, AT_FDCWD, "watched"));
  MUST(fanotify_mark(inodes, FAN_MARK_ADD, FAN_MODIFY, AT_FDCWD, "deleted"));
  MUST(fanotify_mark(inodes, FAN_MARK_ADD, FAN_OPEN | FAN_EVENT_ON_CHILD, AT_FDCWD, "place"));
  MUST(fanotify_mark(mounts, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_CLOSE_WRITE, AT_FDCWD, "."));
  MUST(unlink("deleted"));
  own_events(inodes);
  workload::checkpoint_here();

  char byte = 'x';
  own_events(mounts);  // what checkpoint_here() itself wrote
  CHECK_EQ(own_events(inodes), 0u);
  MUST(write(file, &byte, 1));
  MUST(pread(file, &byte, 1, 0));
  CHECK_EQ(own_events(inodes), static_cast<uint64_t>(FAN_MODIFY));
  MUST(write(deleted, &byte, 1));
  CHECK_EQ(own_events(inodes), static_cast<uint64_t>(FAN_MODIFY));
  CHECK_EQ(own_events(mounts), 0u);
  const int child = MUST(open("place/child", O_CREAT | O_WRONLY, 0644));
  CHECK_EQ(own_events(inodes), static_cast<uint64_t>(FAN_OPEN));
  MUST(close(child));
  CHECK_EQ(own_events(mounts), static_cast<uint64_t>(FAN_CLOSE_WRITE));
  CHECK(fcntl(inodes, F_GETFD) == FD_CLOEXEC);
}
