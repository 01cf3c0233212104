// A page file on tmpfs that tasks fill as memory (UFFDIO_COPY) instead of writing it. Two threads that write one file
// wait for each other, since each has its lock for as long as its write() lasts; and what a task writes to tmpfs is
// charged to its own memory cgroup, so that a container could be killed for the size of its checkpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <thread>

#include "base/fd.h"
#include "kernel/file.h"

namespace dormouse::engine {

class TmpfsPages {
 public:
  // Of a file of no bytes yet, which gets its size. Nothing where this is not possible: another file system, no
  // userfaultfd for us. `file` stays the caller's.
  static std::optional<TmpfsPages> open(int file, std::uint64_t bytes);

  int userfaultfd() const { return userfaultfd_.get(); }
  // Where the byte at `offset` of the file is for UFFDIO_COPY.
  std::uint64_t address_of(std::uint64_t offset) const;
  // The file has the bytes before `end`, and this process need not: they would count as its own memory. Returns before
  // it is done.
  void let_go_before(std::uint64_t end);

 private:
  TmpfsPages(sys::Mapping mapping, Fd userfaultfd) : mapping_(std::move(mapping)), userfaultfd_(std::move(userfaultfd)) {}

  sys::Mapping mapping_;
  Fd userfaultfd_;
  std::uint64_t gone_ = 0;
  std::jthread behind_;  // joined before the mapping goes
};

}  // namespace dormouse::engine
