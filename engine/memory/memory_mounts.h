// The mounts that the kernel keeps to itself for memory that has to be a file: memfds, shared anonymous memory,
// System V segments, and the same of huge pages. What a file of theirs is called, any other file can be called as well.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace dormouse::engine {

class MemoryMounts {
 public:
  explicit MemoryMounts(std::vector<dev_t> devices) : devices_(std::move(devices)) {}
  // Of this kernel. Asked by making a file there.
  static MemoryMounts look();

  bool hold(dev_t device) const;
  bool hold(std::uint32_t major, std::uint32_t minor) const;

 private:
  std::vector<dev_t> devices_;
};

}  // namespace dormouse::engine
