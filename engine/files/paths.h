// Paths of an image, resolved below the container's root and never outside.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace dormouse::engine {

// The last component, and the directory that holds it, both of an absolute path.
struct PathParts {
  std::string directory;  // "/" or "/a/b"
  std::string name;       // neither empty, "." nor ".."
};
Result<PathParts> split_path(const std::string& path);

// As the container's own tasks would resolve the absolute `path`: symbolic links and ".." stay inside.
Result<Fd> open_below(int root, const std::string& path, std::uint64_t flags);

// The same inode through a new open file with flags of its own. Works on O_PATH descriptors.
Result<Fd> reopen(int fd, int flags);

// Directories that exist only while this object does (unless something was put into them).
class TemporaryDirectories {
 public:
  TemporaryDirectories() = default;
  TemporaryDirectories(const TemporaryDirectories&) = delete;
  TemporaryDirectories& operator=(const TemporaryDirectories&) = delete;
  ~TemporaryDirectories();

  // Opens the directory `path` below `root` (O_PATH); makes it, and those above it, where missing.
  Result<Fd> make(int root, const std::string& path);

 private:
  std::vector<std::pair<Fd, std::string>> made_;  // parent and name
};

}  // namespace dormouse::engine
