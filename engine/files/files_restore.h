// Opening saved files again. The engine opens (or creates) every object itself and hands descriptors
// out; sharing one open file between tasks is handing out the same descriptor twice.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/restore_context.h"

namespace dormouse::engine {

class FilesRestore {
 public:
  // `root`: O_PATH descriptor of the restored container's root directory, in its mount namespace; paths
  // are resolved below it (openat2 RESOLVE_IN_ROOT) and never outside.
  static Result<FilesRestore> begin(RestoreContext& context, Fd root);
  FilesRestore(FilesRestore&&) noexcept;
  ~FilesRestore();

  // Pid of a restored task as the engine sees it, by its number in the image; 0: there is none. Needed
  // before an open file can be opened that sends signals to a task (F_SETOWN).
  void set_pid_lookup(std::function<pid_t(pid_t)> lookup);

  // The root task as the engine sees it, whose namespaces sockets are made in; without it, in the engine's own.
  [[nodiscard]] Result<> set_root_task(pid_t pid);

  // The open file behind an id of files.img: opened on first use, then the same each time. Owned by
  // this object. File position, flags and owner (F_SETOWN) are as saved. Descriptors given with
  // --inherit-fd replace what their key names.
  Result<int> open(std::uint32_t file_id);

  // What a task must open, since it would be something else for the engine: /dev/tty is the terminal of the
  // opener's session. Nothing if the engine opens it, or if it is open already.
  struct OpenedByTask {
    std::string path;
    int flags = 0;  // O_*
  };
  Result<std::optional<OpenedByTask>> opened_by_task(std::uint32_t file_id);
  // What the task opened; open() gives it out from then on.
  [[nodiscard]] Result<> adopt(std::uint32_t file_id, Fd file);

  // A file (a program, a mapped file or memfd, a directory) opened anew, for the caller alone, with `flags` (O_*)
  // in the place of the saved ones.
  Result<Fd> open_as(std::uint32_t file_id, std::uint32_t flags);

  // The terminal that controls the session with this number in the image, if there is one: its leader is
  // to ioctl(fd, TIOCSCTTY), and then, if the group is not 0, TIOCSPGRP with it (inside its own pid
  // namespace, SIGTTOU blocked). `fd` belongs to this object.
  struct ControllingTerminal {
    int fd = -1;
    pid_t foreground_group = 0;
  };
  Result<std::optional<ControllingTerminal>> controlling_terminal(pid_t session);
  // A pseudo terminal's master that was already made for a mount of its slave (/dev/console). Before the
  // first open().
  [[nodiscard]] Result<> adopt_terminal_master(std::uint32_t index, Fd master);

  // Who gets signals about an open file and which ones, as saved, whatever has become of it: taking a lease makes its
  // taker the owner. For files with a path.
  [[nodiscard]] Result<> set_owner_again(std::uint32_t file_id);

  // Both ends filled: puts saved pipe and fifo contents back. After all open() calls.
  [[nodiscard]] Result<> refill();

  // The restore succeeded: names that --link-remap had made in the file system are removed.
  void keep();

 private:
  struct State;
  explicit FilesRestore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace dormouse::engine
