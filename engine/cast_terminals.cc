// Cast: terminals, as far as only a task of their session can do it.

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "base/format.h"
#include "engine/cast.h"
#include "kernel/process.h"

namespace dormouse::engine {

// All sessions have their terminals before anybody opens /dev/tty.
Result<> Cast::take_terminals() {
  for (const Actor& actor : actors_)
    if (actor.image->alive() && actor.family->makes_session) TRY(take_terminal(actor));
  for (const Actor& actor : actors_) {
    if (!actor.image->alive()) continue;
    for (const pb::fdinfo_entry& entry : context_.image.descriptors.at(actor.image->ids.files_id()))
      TRY_OR(open_own_terminal(actor, entry.id()), std::move(e).owner(actor.threads.front().name));
  }
  return {};
}

Result<> Cast::take_terminal(const Actor& actor) {
  const auto terminal = TRY(files_->controlling_terminal(static_cast<pid_t>(actor.image->tree.sid())));
  if (!terminal) return {};
  TRY(hand_out(actor.threads.front(), {terminal->fd}));
  parasite::Program program;
  constexpr int kNumber = 0;  // the only one
  program.call("take the controlling terminal", SYS_ioctl, {kNumber, TIOCSCTTY, 0});
  if (terminal->foreground_group != 0) {
    const auto group = program.value(std::int64_t{terminal->foreground_group});
    program.call("set the foreground group", SYS_ioctl, {kNumber, TIOCSPGRP, group});
  }
  program.call("", SYS_close, {kNumber});
  return run(actor, program);
}

Result<> Cast::open_own_terminal(const Actor& actor, std::uint32_t file_id) {
  const auto wanted = TRY(files_->opened_by_task(file_id));
  if (!wanted) return {};
  parasite::Program program;
  const auto path = program.text(wanted->path);
  program.call(format("open {}", wanted->path), SYS_openat, {AT_FDCWD, path, wanted->flags | O_CLOEXEC}, parasite::exactly(0));
  TRY(run(actor, program));
  const Fd puppet = TRY(sys::pidfd_open(actor.threads.front().tid));
  TRY(files_->adopt(file_id, TRY(sys::pidfd_getfd(puppet.get(), 0))));
  parasite::Program close;
  close.call("", SYS_close, {0});
  return run(actor, close);
}

}  // namespace dormouse::engine
