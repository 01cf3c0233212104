// The content of one tmpfs, as a gzip'ed tar stream.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "base/error.h"
#include "base/log.h"
#include "engine/files/leases.h"
#include "engine/mounts/mount_flags.h"

namespace dormouse::engine {

// `root`: descriptor of the file system's root directory without anything mounted below it. Files that
// other processes change meanwhile come out torn, but never break the archive. One with a lease that reading would break is refused.
[[nodiscard]] Result<> save_tmpfs(int root, const MapId& map_uid, const MapId& map_gid, Leases& leases, Log& log,
                                  const std::function<Result<>(std::span<const std::byte>)>& sink);

}  // namespace dormouse::engine
