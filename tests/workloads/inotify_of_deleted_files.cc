#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/workloads/workload.h"

namespace {

int deleted_file(const char* name, int notifier, int* watch) {
  const int file = MUST(open(name, O_CREAT | O_EXCL | O_RDWR, 0644));
  *watch = MUST(inotify_add_watch(notifier, name, IN_MODIFY));
  MUST(unlink(name));
  return file;
}

}  // namespace

WORKLOAD("watches of files and directories that are open and deleted go on, each of its own") {
  const int fd = MUST(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  int first_watch = 0, second_watch = 0;
  const int first = deleted_file("deleted", fd, &first_watch);
  const int second = deleted_file("deleted", fd, &second_watch);
  MUST(mkdir("place", 0755));
  const int place = MUST(open("place", O_RDONLY | O_DIRECTORY));
  const int place_watch = MUST(inotify_add_watch(fd, "place", IN_ATTRIB));
  MUST(rmdir("place"));
  char buffer[4096];
  while (read(fd, buffer, sizeof buffer) > 0) {
  }
  workload::checkpoint_here();

  const auto expect = [&](int watch, uint32_t mask) {
    const ssize_t got = MUST(read(fd, buffer, sizeof buffer));
    CHECK_EQ(got, static_cast<ssize_t>(sizeof(inotify_event)));
    const auto* event = reinterpret_cast<const inotify_event*>(buffer);
    CHECK_EQ(event->wd, watch);
    CHECK_EQ(event->mask, mask);
  };
  MUST(write(second, "b", 1));
  expect(second_watch, IN_MODIFY);
  MUST(write(first, "a", 1));
  expect(first_watch, IN_MODIFY);
  MUST(fchmod(place, 0700));
  expect(place_watch, IN_ATTRIB | IN_ISDIR);
  MUST(inotify_rm_watch(fd, first_watch));
  MUST(close(first));
}
