#include "parasite/host/frame32.h"

#include <algorithm>
#include <cstring>

namespace dormouse::parasite {
namespace {

// arch/x86/include/uapi/asm/sigcontext.h: struct sigcontext_32.
struct Sigcontext32 {
  std::uint32_t gs, fs, es, ds;  // 16 bits each, padded
  std::uint32_t di, si, bp, sp, bx, dx, cx, ax;
  std::uint32_t trapno, err, ip, cs, flags, sp_at_signal, ss, fpstate, oldmask, cr2;
};
static_assert(sizeof(Sigcontext32) == 88);

// arch/x86/include/asm/sigframe.h: struct rt_sigframe_ia32.
struct [[gnu::packed]] KernelFrame32 {
  std::uint32_t return_address;
  std::uint32_t signal, info_address, context_address;
  std::byte siginfo[128];
  std::uint32_t uc_flags, uc_link;
  std::uint32_t stack_pointer, stack_flags, stack_size;
  Sigcontext32 mcontext;
  std::uint64_t signal_mask;
  std::byte code[8];
};
static_assert(sizeof(KernelFrame32) == 268);

struct [[gnu::packed]] OldKernelFrame32 {  // struct sigframe_ia32
  std::uint32_t return_address, signal;
  Sigcontext32 context;
  std::byte unused_state[624];
  std::uint32_t upper_mask;
  std::byte code[8];
};
static_assert(sizeof(OldKernelFrame32) == 732);

// struct fregs_state: what FSAVE writes, and a word for the kernel. It stands before the FXSAVE area.
struct [[gnu::packed]] Fsave {
  std::uint32_t control, status, tags, ip, code_segment, data, data_segment;
  std::byte registers[80];
  std::uint32_t software_status;
};
static_assert(sizeof(Fsave) == 112);

struct Fxsave {  // its beginning
  std::uint16_t control, status;
  std::uint8_t tags, reserved;
  std::uint16_t opcode;
  std::uint64_t ip, data;
  std::uint32_t mxcsr, mxcsr_mask;
  std::byte registers[128];
};
static_assert(sizeof(Fxsave) == 160);
constexpr std::size_t kFxRegister = 16, kRegister = 10;

// The segments are those that the kernel itself reports (convert_from_fxsr, arch/x86/kernel/fpu/regset.c). It takes
// the opcode from the code segment's upper half, and ignores the rest of both.
Fsave fsave_of(std::span<const std::byte> xstate, const user_regs_struct& regs) {
  Fxsave from;
  std::memcpy(&from, xstate.data(), sizeof from);
  Fsave to{};
  to.control = from.control | 0xffff0000u;
  to.status = from.status | 0xffff0000u;
  to.tags = full_tag_word(from.tags, from.status, from.registers) | 0xffff0000u;
  to.ip = static_cast<std::uint32_t>(from.ip);
  to.code_segment = static_cast<std::uint32_t>(regs.cs & 0xffff) | std::uint32_t{from.opcode} << 16;
  to.data = static_cast<std::uint32_t>(from.data);
  to.data_segment = static_cast<std::uint32_t>(regs.ds & 0xffff) | 0xffff0000u;
  for (std::size_t i = 0; i < 8; ++i)
    std::memcpy(to.registers + i * kRegister, from.registers + i * kFxRegister, kRegister);
  to.software_status = from.status;
  return to;
}

Sigcontext32 to_sigcontext32(const user_regs_struct& r) {
  const auto low = [](unsigned long long value) { return static_cast<std::uint32_t>(value); };
  Sigcontext32 s{};
  s.gs = low(r.gs & 0xffff), s.fs = low(r.fs & 0xffff), s.es = low(r.es & 0xffff), s.ds = low(r.ds & 0xffff);
  s.di = low(r.rdi), s.si = low(r.rsi), s.bp = low(r.rbp), s.sp = s.sp_at_signal = low(r.rsp);
  s.bx = low(r.rbx), s.dx = low(r.rdx), s.cx = low(r.rcx), s.ax = low(r.rax);
  s.ip = low(r.rip), s.cs = low(r.cs & 0xffff), s.flags = low(r.eflags), s.ss = low(r.ss & 0xffff);
  return s;
}

KernelFrame32 frame_of(const user_regs_struct& regs, std::uint64_t restorer, std::uint64_t mask) {
  KernelFrame32 frame{};
  frame.return_address = static_cast<std::uint32_t>(restorer);
  // Not a valid mode: sigreturn then leaves the thread's alternate stack setting alone.
  frame.stack_flags = 7;
  frame.mcontext = to_sigcontext32(regs);
  frame.signal_mask = mask;
  return frame;
}

// Its bytes, with room for `pops` before them.
std::vector<std::byte> frame_bytes(const Context& context, std::uint64_t restorer, std::uint64_t state_at,
                                   std::uint32_t pops, FrameKind kind) {
  std::vector<std::byte> bytes(pops);
  const auto append = [&](const auto& frame) {
    const auto raw = std::as_bytes(std::span(&frame, 1));
    bytes.insert(bytes.end(), raw.begin(), raw.end());
  };
  if (kind == FrameKind::kRealTime) {
    KernelFrame32 frame = frame_of(resumable(context.regs), restorer, context.signal_mask);
    frame.mcontext.fpstate = static_cast<std::uint32_t>(state_at);
    append(frame);
    return bytes;
  }
  OldKernelFrame32 frame{};
  frame.return_address = static_cast<std::uint32_t>(restorer);
  frame.context = to_sigcontext32(resumable(context.regs));
  frame.context.fpstate = static_cast<std::uint32_t>(state_at);
  frame.context.oldmask = static_cast<std::uint32_t>(context.signal_mask);
  frame.upper_mask = static_cast<std::uint32_t>(context.signal_mask >> 32);
  append(frame);
  return bytes;
}

}  // namespace

std::uint16_t full_tag_word(std::uint8_t tags, std::uint16_t status, std::span<const std::byte> registers) {
  constexpr unsigned kValid = 0, kZero = 1, kSpecial = 2, kEmpty = 3;
  const unsigned top = (status >> 11) & 7;
  unsigned word = 0;
  for (unsigned i = 0; i < 8; ++i) {
    unsigned tag = kEmpty;
    if (tags >> i & 1) {
      // Tags go by physical register, the area by place on the stack.
      std::uint64_t mantissa = 0;
      std::uint16_t exponent = 0;
      const std::byte* at = registers.data() + ((i - top) & 7) * kFxRegister;
      std::memcpy(&mantissa, at, sizeof mantissa);
      std::memcpy(&exponent, at + 8, sizeof exponent);
      exponent &= 0x7fff;
      if (exponent == 0) tag = mantissa == 0 ? kZero : kSpecial;
      else if (exponent == 0x7fff) tag = kSpecial;
      else tag = mantissa >> 63 ? kValid : kSpecial;
    }
    word |= tag << (2 * i);
  }
  return static_cast<std::uint16_t>(word);
}

SignalFrame build_frame32(const Context& context, std::uint64_t stack, std::uint64_t restorer, std::uint32_t pops,
                          FrameKind kind) {
  const std::vector<std::byte> xstate = frame_xstate(context);
  // The extended state must be 64-byte aligned; FSAVE's part stands before it.
  const std::uint64_t xstate_at = (stack - xstate.size()) & ~std::uint64_t{63};
  const std::uint64_t fsave_at = xstate_at - sizeof(Fsave);
  const std::size_t frame_bytes_here = kind == FrameKind::kOld ? sizeof(OldKernelFrame32) : sizeof(KernelFrame32);
  const std::uint64_t frame_at = ((fsave_at - frame_bytes_here) & ~std::uint64_t{15}) - 4;
  const Fsave fsave = fsave_of(xstate, context.regs);

  SignalFrame out;
  out.address = frame_at - pops;
  out.bytes = frame_bytes(context, restorer, fsave_at, pops, kind);
  out.bytes.resize(xstate_at - out.address + xstate.size());
  std::byte* const begin = out.bytes.data();
  std::memcpy(begin + (fsave_at - out.address), &fsave, sizeof fsave);
  std::memcpy(begin + (xstate_at - out.address), xstate.data(), xstate.size());
  return out;
}

SignalFrame build_call_frame32(const user_regs_struct& regs, std::uint64_t below, std::uint64_t restorer,
                               std::uint32_t pops, std::uint64_t gadget, long number, std::uint64_t arg0,
                               std::uint64_t arg1, std::uint64_t next_frame) {
  user_regs_struct call = regs;
  call.rip = gadget;
  call.rsp = next_frame;
  call.rax = static_cast<std::uint64_t>(number);
  call.rbx = arg0;
  call.rcx = arg1;
  const KernelFrame32 frame = frame_of(call, restorer, ~std::uint64_t{0});
  SignalFrame out;
  out.address = ((below - sizeof frame) & ~std::uint64_t{15}) - 4 - pops;
  out.bytes.resize(pops + sizeof frame);
  std::memcpy(out.bytes.data() + pops, &frame, sizeof frame);
  return out;
}

}  // namespace dormouse::parasite
