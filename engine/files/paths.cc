#include "engine/files/paths.h"

#include <fcntl.h>
#include <linux/openat2.h>

#include <ranges>

#include "base/format.h"
#include "kernel/file.h"

namespace dormouse::engine {

Result<PathParts> split_path(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (!path.starts_with('/') || path.find('\0') != std::string::npos)
    return fail(Error::corrupt(format("'{}' is not an absolute path", path)));
  PathParts parts{path.substr(0, slash == 0 ? 1 : slash), path.substr(slash + 1)};
  if (parts.name.empty() || parts.name == "." || parts.name == "..")
    return fail(Error::corrupt(format("'{}' does not name a file", path)));
  return parts;
}

Result<Fd> open_below(int root, const std::string& path, std::uint64_t flags) {
  if (!path.starts_with('/') || path.find('\0') != std::string::npos)
    return fail(Error::corrupt(format("'{}' is not an absolute path", path)));
  return sys::openat2(root, path, flags, RESOLVE_IN_ROOT);
}

Result<Fd> reopen(int fd, int flags) {
  // O_NOFOLLOW would stop at the magic link itself.
  return sys::openat(AT_FDCWD, format("/proc/self/fd/{}", fd), flags & ~O_NOFOLLOW);
}

TemporaryDirectories::~TemporaryDirectories() {
  for (const auto& [parent, name] : made_ | std::views::reverse)
    (void)sys::unlinkat(parent.get(), name, AT_REMOVEDIR);  // ENOTEMPTY: it is in use, so it stays
}

Result<Fd> TemporaryDirectories::make(int root, const std::string& path) {
  auto found = open_below(root, path, O_PATH | O_DIRECTORY);
  if (found || !found.error().is_kernel(ENOENT)) return found;
  const PathParts parts = TRY(split_path(path));
  Fd parent = TRY(make(root, parts.directory));
  TRY(sys::mkdirat(parent.get(), parts.name, 0700));
  Fd made = TRY(sys::openat(parent.get(), parts.name, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  made_.emplace_back(std::move(parent), parts.name);
  return made;
}

}  // namespace dormouse::engine
