// A checkpoint and the images that it builds on, from the youngest on. A level is opened when it is first
// asked for: images that need no parent do not care whether the one they name is there.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "images/directory.h"

namespace dormouse::images {

class Chain {
 public:
  // `directory`, of the youngest images, stays the caller's. Verifies them.
  static Result<Chain> open(int directory);

  // Opens and verifies levels as far as this one. Fails if there is none, if its files are not what its
  // manifest says, or if it is not the parent that the level before was built on.
  Result<const InputDirectory*> reach(std::size_t level);
  // Of those reached so far.
  std::size_t size() const { return levels_.size(); }
  const InputDirectory& operator[](std::size_t level) const { return *levels_[level].images; }
  int directory(std::size_t level) const { return levels_[level].fd; }
  // How errors call a file of a level: "pages-1.img", "parent/parent/pages-1.img".
  static std::string name(std::size_t level, std::string_view file);

 private:
  struct Level {
    Fd owned;
    int fd = -1;
    std::unique_ptr<InputDirectory> images;
    std::pair<std::uint64_t, std::uint64_t> identity;  // device and inode
  };
  [[nodiscard]] Result<> add(Fd owned, int fd);
  [[nodiscard]] Result<> check_descent(const Level& child, const Level& parent) const;
  std::vector<Level> levels_;
};

}  // namespace dormouse::images
