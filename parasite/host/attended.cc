#include "parasite/host/attended.h"

#include <signal.h>
#include <sys/ptrace.h>

#include <cerrno>

#include "kernel/ptrace.h"
#include "parasite/host/context.h"

namespace dormouse::parasite {
namespace {
constexpr auto kPatience = std::chrono::seconds(10);
}

user_regs_struct registers_to_call(const user_regs_struct& base, std::uint64_t gadget, std::uint64_t stack, long number,
                                   std::span<const std::uint64_t> args) {
  user_regs_struct regs = base;
  regs.rip = gadget;
  regs.rsp = stack;
  regs.rax = static_cast<std::uint64_t>(number);
  regs.orig_rax = static_cast<std::uint64_t>(-1);
  unsigned long long* const slots64[] = {&regs.rdi, &regs.rsi, &regs.rdx, &regs.r10, &regs.r8, &regs.r9};
  unsigned long long* const slots32[] = {&regs.rbx, &regs.rcx, &regs.rdx, &regs.rsi, &regs.rdi, &regs.rbp};
  for (std::size_t i = 0; i < args.size(); ++i) *(runs_32_bit_code(base) ? slots32 : slots64)[i] = args[i];
  return regs;
}

Result<std::uint64_t> attended_syscall(Keeper& keeper, pid_t tid, const user_regs_struct& base,
                                       std::uint64_t gadget, std::uint64_t stack, long number,
                                       std::span<const std::uint64_t> args) {
  AttendedCall call(tid, base);
  TRY(call.begin(gadget, stack, number, args));
  return call.finish(keeper);
}

Result<> AttendedCall::begin(std::uint64_t gadget, std::uint64_t stack, long number, std::span<const std::uint64_t> args) {
  TRY(sys::ptrace::setregs(tid_, registers_to_call(base_, gadget, stack, number, args)));
  TRY(sys::ptrace::setsigmask(tid_, ~std::uint64_t{0}));
  TRY(sys::ptrace::syscall(tid_));
  step_ = Step::kBegun;
  return {};
}

Result<> AttendedCall::wait_for_syscall_stop(Keeper& keeper) {
  constexpr int kSyscallStop = SIGTRAP | 0x80;
  for (;;) {
    const Stop stop = TRY(keeper.wait_stop(tid_, within(kPatience)));
    if (stop.signal() == kSyscallStop) return {};
    TRY(sys::ptrace::syscall(tid_));
  }
}

Result<> AttendedCall::pass_entry(Keeper& keeper) {
  TRY(wait_for_syscall_stop(keeper));
  TRY(sys::ptrace::syscall(tid_));
  step_ = Step::kEntered;
  return {};
}

Result<std::uint64_t> AttendedCall::end(Keeper& keeper) {
  TRY(wait_for_syscall_stop(keeper));
  step_ = Step::kEnded;
  const user_regs_struct after = TRY(sys::ptrace::getregs(tid_));
  const bool is_32 = runs_32_bit_code(base_);
  const auto result = is_32 ? static_cast<std::int32_t>(after.rax) : static_cast<std::int64_t>(after.rax);
  if (result < 0 && result >= -4095)
    return fail(Error::kernel("system call in the task", static_cast<int>(-result)));
  return is_32 ? static_cast<std::uint32_t>(after.rax) : after.rax;
}

Result<std::uint64_t> AttendedCall::finish(Keeper& keeper) {
  if (step_ == Step::kBegun) TRY(pass_entry(keeper));
  return end(keeper);
}

user_regs_struct registers_to_serve(const user_regs_struct& base, Area& area, std::uint32_t slot) {
  user_regs_struct regs = base;
  regs.cs = kCode64;
  regs.rip = area.entry();
  regs.rdi = area.cell_address(slot);
  regs.rsp = area.stack_top(slot) - 8;
  regs.eflags = 0x202;
  regs.rax = 0;
  regs.orig_rax = static_cast<std::uint64_t>(-1);
  return regs;
}

Result<> stop_serving(Keeper& keeper, pid_t tid) {
  TRY(ask_to_stop_serving(keeper, tid));
  return wait_until_stopped(keeper, tid);
}

Result<> ask_to_stop_serving(Keeper& keeper, pid_t tid) {
  keeper.expect_stops(tid);
  return sys::ptrace::interrupt(tid);
}

Result<> wait_until_stopped(Keeper& keeper, pid_t tid) {
  Stop stop = TRY(keeper.wait_stop(tid, within(kPatience)));
  while (stop.event() != PTRACE_EVENT_STOP) {
    TRY(sys::ptrace::cont(tid));
    stop = TRY(keeper.wait_stop(tid, within(kPatience)));
  }
  return {};
}

}  // namespace dormouse::parasite
