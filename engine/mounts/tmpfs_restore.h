// Filling a tmpfs from its archive.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"

namespace dormouse::engine {

// `root`: the directory to fill; nothing outside of it is touched, whatever the archive says. `archive`: a gzip'ed
// (or plain) tar file in any of tar's formats. An archive that is damaged, or that holds what has no place in
// a tmpfs, is kCorruptImage and names the member.
[[nodiscard]] Result<> restore_tmpfs(int root, Fd archive, Log& log);

}  // namespace dormouse::engine
