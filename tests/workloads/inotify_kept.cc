#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "tests/workloads/workload.h"

WORKLOAD("an inotify keeps its watches and their numbers") {
  MUST(mkdir("watched", 0755));
  const int fd = MUST(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  const int unused = MUST(inotify_add_watch(fd, ".", IN_DELETE_SELF));
  const int watch = MUST(inotify_add_watch(fd, "watched", IN_CREATE));
  MUST(inotify_rm_watch(fd, unused));
  char buffer[4096];
  while (read(fd, buffer, sizeof buffer) > 0) {
  }
  workload::checkpoint_here();
  close(MUST(open("watched/new", O_CREAT | O_WRONLY, 0644)));
  const ssize_t got = MUST(read(fd, buffer, sizeof buffer));
  CHECK(got >= static_cast<ssize_t>(sizeof(inotify_event)));
  const auto* event = reinterpret_cast<const inotify_event*>(buffer);
  CHECK_EQ(event->wd, watch);
  CHECK_EQ(event->mask, static_cast<uint32_t>(IN_CREATE));
  CHECK_EQ(event->name, "new");
}
