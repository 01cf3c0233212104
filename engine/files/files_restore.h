// Opening saved files again. The engine opens (or creates) every object itself and hands descriptors
// out; sharing one open file between tasks is handing out the same descriptor twice.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/restore_context.h"

namespace dormouse::engine {

class FilesRestore {
 public:
  // `root`: O_PATH descriptor of the restored container's root directory, in its mount namespace; paths
  // are resolved below it (openat2 RESOLVE_IN_ROOT) and never outside.
  static Result<FilesRestore> begin(RestoreContext& context, Fd root);
  FilesRestore(FilesRestore&&) noexcept;
  ~FilesRestore();

  // The open file behind an id of files.img: opened on first use, then the same each time. Owned by
  // this object. File position, flags and owner (F_SETOWN) are as saved. Descriptors given with
  // --inherit-fd replace what their key names.
  Result<int> open(std::uint32_t file_id);

  // Both ends filled: puts saved pipe and fifo contents back. After all open() calls.
  [[nodiscard]] Result<> refill();

 private:
  struct State;
  explicit FilesRestore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace dormouse::engine
