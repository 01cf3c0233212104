// Files that stand for events: eventfd, signalfd, timerfd, epoll, inotify, fanotify.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/error.h"
#include "base/fd.h"
#include "kernel/file.h"

struct epoll_event;
struct itimerspec;

namespace dormouse::sys {

// `flags`: EFD_SEMAPHORE, EFD_NONBLOCK.
Result<Fd> eventfd(unsigned counter, int flags);
// `mask`: bit n-1 is signal n.
Result<Fd> signalfd(std::uint64_t mask);
Result<Fd> timerfd_create(int clock, int flags = 0);
[[nodiscard]] Result<> timerfd_settime(int fd, int flags, const ::itimerspec& value);
Result<Fd> epoll_create();
// `event` may be null for EPOLL_CTL_DEL.
[[nodiscard]] Result<> epoll_ctl(int epoll, int operation, int fd, ::epoll_event* event);
Result<Fd> inotify_init(int flags = 0);
// The watch's number.
Result<int> inotify_add_watch(int fd, Path path, std::uint32_t mask);
[[nodiscard]] Result<> inotify_rm_watch(int fd, int watch);
// `flags`: FAN_*, which fdinfo shows again, so that FAN_CLOEXEC is up to the caller (the descriptor is closed on exec
// anyway); `event_flags`: O_* of the descriptors that it hands out.
Result<Fd> fanotify_init(unsigned flags, unsigned event_flags);
[[nodiscard]] Result<> fanotify_mark(int fd, unsigned flags, std::uint64_t mask, Path path);

}  // namespace dormouse::sys
