// The user-mode context of a stopped thread, and the signal frame that brings it back.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/error.h"

namespace dormouse::parasite {

// Everything a signal handler's return restores, as the thread had it in its ptrace stop.
struct Context {
  user_regs_struct regs{};         // untouched: orig_rax and rax as the kernel left them
  std::vector<std::byte> xstate;   // NT_X86_XSTATE, the standard (uncompacted) layout
  std::uint64_t signal_mask = 0;
};

// Code segments of user mode, fixed on x86-64 kernels.
inline constexpr std::uint64_t kCode64 = 0x33, kCode32 = 0x23;
inline bool runs_32_bit_code(const user_regs_struct& regs) { return regs.cs == kCode32; }

// Some waits end with EINTR when their thread is stopped, though no handler runs (signal(7)). Where they have no timeout, and so
// nothing to go by but what they wait for, they are to go on: unless a handler does run by then, which the kernel knows. True: the
// registers have changed.
bool continue_endless_wait(user_regs_struct& regs);

// The thread must be in a ptrace stop.
Result<Context> capture(pid_t tid);
// Puts all of it back, bit by bit; an interrupted system call is then restarted by the kernel itself.
[[nodiscard]] Result<> reinstate(pid_t tid, const Context& context);

// The registers with which the thread goes on when somebody else than the interrupting kernel resumes
// it (a signal frame, a restored image): system calls that were interrupted are issued again; a timeout
// that only the kernel's restart block could continue starts anew.
user_regs_struct resumable(const user_regs_struct& regs);

// How the kernel would go on with the call that resumable() issues again, as it puts it: ERESTARTSYS (-512),
// ERESTARTNOINTR or ERESTARTNOHAND. It decides whether a signal that waits ends the call with EINTR. None: not in such a call.
std::optional<std::int32_t> continuation(const user_regs_struct& regs);
// The other way round, for a thread in a ptrace stop: as if it were in call `number` still, which `regs` (from resumable())
// are about to issue. False: they are not, or the word is not one of those.
bool continue_call(user_regs_struct& regs, std::uint64_t number, std::int32_t continuation);
// The number of restart_syscall, with which the kernel continues a call that it knows how to continue.
std::uint64_t restart_number(const user_regs_struct& regs);

// A signal frame as the kernel builds it (arch/x86/kernel/signal_64.c: struct rt_sigframe; of 32-bit code see
// frame32.h), for a thread
// whose stack pointer is `stack` below which nothing may be assumed free but what a signal would use.
struct SignalFrame {
  std::uint64_t address = 0;   // of its first byte; the first word is the return address
  std::vector<std::byte> bytes;
};
// The extended state as sigreturn takes it: standard layout, the kernel's marks in it and behind it.
std::vector<std::byte> frame_xstate(const Context& context);
// `restorer`: code that calls rt_sigreturn, or 0. `on_alternate_stack`: `stack` is the top of an
// alternate signal stack, which has no red zone to spare.
SignalFrame build_frame(const Context& context, std::uint64_t stack, bool on_alternate_stack,
                        std::uint64_t restorer);

// A small frame whose return makes one more system call through `gadget` (`syscall; …; ret`) and then
// returns to `next_frame`: a link in a chain of returns. `below`: the new frame ends under this address.
// Its extended state is empty; the last frame of the chain brings the real one.
SignalFrame build_call_frame(const user_regs_struct& regs, std::uint64_t below, std::uint64_t restorer,
                             std::uint64_t gadget, long number, std::uint64_t arg0, std::uint64_t arg1,
                             std::uint64_t next_frame);

}  // namespace dormouse::parasite
