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
  std::uint64_t syscall = 0;    // a `syscall` instruction, `int $0x80` of 32-bit code; never 0
  bool syscall_returns = false;  // … and nothing but register clears (32-bit: pops) before the `ret` after it
  std::uint32_t pops = 0;       // bytes that those pops take off the stack
  std::uint64_t restorer = 0;   // `mov $15, …; syscall` (rt_sigreturn; 32-bit: 173), or 0
  std::uint64_t old_restorer = 0;  // of 32-bit code: `pop %eax; mov $119, %eax; int $0x80` (sigreturn), or 0

  // Whether a thread finds its way home from a system call made outside the area without help.
  bool complete() const { return syscall_returns && restorer != 0; }
};

// Offset of a `syscall` that runs into `ret` with the stack pointer and the result unchanged.
std::optional<std::size_t> find_returning_syscall(std::span<const std::byte> code);
std::optional<std::size_t> find_syscall(std::span<const std::byte> code);
std::optional<std::size_t> find_restorer(std::span<const std::byte> code);

// The same in 32-bit code. Its vdso has `int $0x80; pop %ebp; pop %edx; pop %ecx; ret`.
struct ReturningCall {
  std::size_t offset = 0;
  std::uint32_t pops = 0;
  bool operator==(const ReturningCall&) const = default;
};
std::optional<ReturningCall> find_returning_int80(std::span<const std::byte> code);
std::optional<std::size_t> find_int80(std::span<const std::byte> code);
std::optional<std::size_t> find_restorer32(std::span<const std::byte> code);
std::optional<std::size_t> find_old_restorer32(std::span<const std::byte> code);

// Looks into a process's vdso and executable mappings. `proc_dir`: its /proc/PID directory. Results for
// a file are remembered across calls by device, inode and offset.
class GadgetFinder {
 public:
  // `is_32`: the process runs 32-bit code.
  Result<Gadgets> find(pid_t pid, int proc_dir, std::span<const proc::Vma> maps, bool is_32 = false);

 private:
  struct Known {
    std::uint64_t inode, offset, size;
    std::uint32_t major, minor;
    bool is_32;
    std::optional<std::size_t> restorer;
    std::optional<ReturningCall> syscall;
  };
  const Known& look_into(pid_t pid, int proc_dir, const proc::Vma& vma, bool is_32);
  std::vector<Known> known_;
};

}  // namespace dormouse::parasite
