// Code that is already in a task and lets a thread leave the interpreter's area behind.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/error.h"
#include "kernel/proc/maps.h"

namespace dormouse::parasite {

struct Gadgets {
  std::uint64_t syscall = 0;    // a `syscall` instruction; never 0
  bool syscall_returns = false;  // … and nothing but register clears before the `ret` after it
  std::uint64_t restorer = 0;   // `mov $15, …; syscall` (rt_sigreturn), or 0

  // Whether a thread finds its way home from a system call made outside the area without help.
  bool complete() const { return syscall_returns && restorer != 0; }
};

// Offset of a `syscall` that runs into `ret` with the stack pointer and the result unchanged.
std::optional<std::size_t> find_returning_syscall(std::span<const std::byte> code);
std::optional<std::size_t> find_syscall(std::span<const std::byte> code);
std::optional<std::size_t> find_restorer(std::span<const std::byte> code);

// Looks into a process's vdso and executable mappings. `proc_dir`: its /proc/PID directory. Results for
// a file are remembered across calls by device, inode and offset.
class GadgetFinder {
 public:
  Result<Gadgets> find(pid_t pid, int proc_dir, std::span<const proc::Vma> maps);

 private:
  struct Known {
    std::uint64_t inode, offset, size;
    std::uint32_t major, minor;
    std::optional<std::size_t> restorer, syscall;
  };
  const Known& look_into(pid_t pid, int proc_dir, const proc::Vma& vma);
  std::vector<Known> known_;
};

}  // namespace dormouse::parasite
