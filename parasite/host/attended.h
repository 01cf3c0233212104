// A system call made by a traced thread outside the interpreter, watched from entry to exit.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <cstdint>
#include <span>

#include "base/error.h"
#include "parasite/host/area.h"
#include "parasite/host/keeper.h"

namespace dormouse::parasite {

// Registers of a thread that is about to make a system call. `base`: its others; their code segment says whether it is a call of
// 32-bit code, whose numbers and argument registers are others. `gadget`: address of a `syscall` (32-bit: `int $0x80`)
// instruction; `stack`: its stack pointer during the call.
user_regs_struct registers_to_call(const user_regs_struct& base, std::uint64_t gadget, std::uint64_t stack, long number,
                                   std::span<const std::uint64_t> args);

// The thread must be in a ptrace stop, its stops expected by the keeper (TRACESYSGOOD set). Blocks all signals of the thread;
// registers and mask stay changed.
Result<std::uint64_t> attended_syscall(Keeper& keeper, pid_t tid, const user_regs_struct& base,
                                       std::uint64_t gadget, std::uint64_t stack, long number,
                                       std::span<const std::uint64_t> args);

// The same in steps, for many threads whose calls run at the same time: all begin, then all pass the entry, then all end.
class AttendedCall {
 public:
  AttendedCall(pid_t tid, const user_regs_struct& base) : tid_(tid), base_(base) {}
  [[nodiscard]] Result<> begin(std::uint64_t gadget, std::uint64_t stack, long number, std::span<const std::uint64_t> args);
  [[nodiscard]] Result<> pass_entry(Keeper& keeper);
  Result<std::uint64_t> end(Keeper& keeper);
  // Between begin() and end(): the thread makes the call, whether somebody wants it or not.
  bool under_way() const { return step_ == Step::kBegun || step_ == Step::kEntered; }
  // The steps that are left of one that is under way.
  Result<std::uint64_t> finish(Keeper& keeper);

 private:
  [[nodiscard]] Result<> wait_for_syscall_stop(Keeper& keeper);

  enum class Step : std::uint8_t { kNone, kBegun, kEntered, kEnded };
  pid_t tid_;
  user_regs_struct base_;
  Step step_ = Step::kNone;
};

// Registers of a thread that begins to serve the cell of `slot`.
user_regs_struct registers_to_serve(const user_regs_struct& base, Area& area, std::uint32_t slot);

// Interrupts a thread that serves the interpreter and waits for its stop.
[[nodiscard]] Result<> stop_serving(Keeper& keeper, pid_t tid);
// The same in steps, for many threads.
[[nodiscard]] Result<> ask_to_stop_serving(Keeper& keeper, pid_t tid);
[[nodiscard]] Result<> wait_until_stopped(Keeper& keeper, pid_t tid);

}  // namespace dormouse::parasite
