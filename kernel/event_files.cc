#include "kernel/event_files.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "kernel/call.h"

namespace dormouse::sys {

Result<Fd> eventfd(unsigned counter, int flags) {
  return new_fd("eventfd", [&] { return ::eventfd(counter, flags | EFD_CLOEXEC); });
}
Result<Fd> signalfd(std::uint64_t mask) {
  // The kernel's mask is a word; the C library's type is larger.
  return new_fd("signalfd", [&] { return ::syscall(SYS_signalfd4, -1, &mask, sizeof mask, SFD_CLOEXEC); });
}
Result<Fd> timerfd_create(int clock, int flags) {
  return new_fd("timerfd_create", [&] { return ::timerfd_create(clock, flags | TFD_CLOEXEC); });
}
Result<> timerfd_settime(int fd, int flags, const ::itimerspec& value) {
  return done("timerfd_settime", [&] { return ::timerfd_settime(fd, flags, &value, nullptr); });
}
Result<Fd> epoll_create() {
  return new_fd("epoll_create", [] { return ::epoll_create1(EPOLL_CLOEXEC); });
}
Result<> epoll_ctl(int epoll, int operation, int fd, ::epoll_event* event) {
  return done("epoll_ctl", [&] { return ::epoll_ctl(epoll, operation, fd, event); });
}
Result<Fd> inotify_init(int flags) {
  return new_fd("inotify_init", [&] { return ::inotify_init1(flags | IN_CLOEXEC); });
}
Result<int> inotify_add_watch(int fd, Path path, std::uint32_t mask) {
  return value("inotify_add_watch", [&] { return ::inotify_add_watch(fd, path.c_str(), mask); });
}
Result<> inotify_rm_watch(int fd, int watch) {
  return done("inotify_rm_watch", [&] { return ::inotify_rm_watch(fd, watch); });
}
Result<Fd> fanotify_init(unsigned flags, unsigned event_flags) {
  Fd file = TRY(new_fd("fanotify_init", [&] { return ::fanotify_init(flags, event_flags); }));
  TRY(done("fcntl", [&] { return ::fcntl(file.get(), F_SETFD, FD_CLOEXEC); }));
  return file;
}
Result<> fanotify_mark(int fd, unsigned flags, std::uint64_t mask, Path path) {
  return done("fanotify_mark", [&] { return ::fanotify_mark(fd, flags, mask, AT_FDCWD, path.c_str()); });
}

}  // namespace dormouse::sys
