#include "parasite/host/context.h"

#include <cpuid.h>
#include <elf.h>
#include <signal.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "kernel/ptrace.h"

namespace dormouse::parasite {
namespace {

constexpr std::size_t kMaxXstate = 16384;  // AMX makes it about 11 KiB
constexpr std::size_t kRedZone = 128;

// What the kernel puts where sigreturn looks for it (arch/x86/include/uapi/asm/sigcontext.h).
constexpr std::uint32_t kMagic1 = 0x46505853, kMagic2 = 0x46505845;
constexpr std::size_t kSoftwareBytes = 464;  // of the FXSAVE area: struct _fpx_sw_bytes
constexpr std::uint64_t kUcFpXstate = 1, kUcSigcontextSs = 2, kUcStrictRestoreSs = 4;

// Internal results of interrupted system calls (include/linux/errno.h).
constexpr long kRestartSys = -512, kRestartNoIntr = -513, kRestartNoHand = -514, kRestartBlock = -516;

struct SoftwareBytes {
  std::uint32_t magic1;
  std::uint32_t extended_size;
  std::uint64_t features;
  std::uint32_t xstate_size;
  std::uint32_t padding[7];
};
static_assert(sizeof(SoftwareBytes) == 48);

struct Sigcontext {
  std::uint64_t r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, flags;
  std::uint16_t cs, gs, fs, ss;
  std::uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
};
static_assert(sizeof(Sigcontext) == 256);

struct KernelFrame {
  std::uint64_t return_address;
  std::uint64_t uc_flags, uc_link;
  std::uint64_t stack_pointer;
  std::uint32_t stack_flags, stack_pad;
  std::uint64_t stack_size;
  Sigcontext mcontext;
  std::uint64_t signal_mask;
  std::byte siginfo[128];
};
static_assert(sizeof(KernelFrame) == 440);

// Components the kernel keeps room for only in threads that use them (XTILE_DATA of AMX); a frame that
// claims them for another thread would be refused by sigreturn, together with all the rest.
constexpr std::uint64_t kDynamicFeatures = 1u << 18;
constexpr std::size_t kXstateHeader = 512, kLegacyAndHeaderBytes = 576;

// Where each component ends in the standard layout (Intel SDM volume 1, 13.5; CPUID leaf 0xd). CPUID traps in a virtual
// machine: asked once.
const std::array<std::size_t, 63>& component_ends() {
  static const auto ends = [] {
    std::array<std::size_t, 63> found{};
    for (unsigned i = 2; i < found.size(); ++i) {
      unsigned bytes = 0, offset = 0, c = 0, d = 0;
      __cpuid_count(0xd, i, bytes, offset, c, d);
      found[i] = offset + bytes;
    }
    return found;
  }();
  return ends;
}

// Bytes of the standard layout that hold `features`.
std::size_t standard_size(std::uint64_t features) {
  std::size_t size = kLegacyAndHeaderBytes;
  for (unsigned i = 2; i < component_ends().size(); ++i)
    if (features >> i & 1) size = std::max(size, component_ends()[i]);
  return size;
}

Sigcontext to_sigcontext(const user_regs_struct& r) {
  Sigcontext s{};
  s.r8 = r.r8, s.r9 = r.r9, s.r10 = r.r10, s.r11 = r.r11;
  s.r12 = r.r12, s.r13 = r.r13, s.r14 = r.r14, s.r15 = r.r15;
  s.di = r.rdi, s.si = r.rsi, s.bp = r.rbp, s.bx = r.rbx;
  s.dx = r.rdx, s.ax = r.rax, s.cx = r.rcx, s.sp = r.rsp;
  s.ip = r.rip, s.flags = r.eflags;
  s.cs = static_cast<std::uint16_t>(r.cs), s.ss = static_cast<std::uint16_t>(r.ss);
  return s;
}

}  // namespace

namespace {

struct EndlessWait {
  long number, number32;
  unsigned timeout;       // which argument it is
  bool in_milliseconds;   // negative: none; else a pointer, null: none
};
constexpr EndlessWait kEndlessWaits[] = {
    {SYS_epoll_wait, 256, 3, true},       {SYS_epoll_pwait, 319, 3, true},     {SYS_epoll_pwait2, 441, 3, false},
    {SYS_rt_sigtimedwait, 177, 2, false}, {SYS_rt_sigtimedwait, 421, 2, false}, {SYS_semtimedop, 420, 3, false},
    {SYS_io_getevents, 247, 4, false},
};

std::uint64_t argument(const user_regs_struct& regs, unsigned which) {
  const unsigned long long in64[] = {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8};
  const unsigned long long in32[] = {regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi};
  return runs_32_bit_code(regs) ? static_cast<std::uint32_t>(in32[which]) : in64[which];
}

}  // namespace

bool continue_endless_wait(user_regs_struct& regs) {
  const bool is_32 = runs_32_bit_code(regs);
  if (static_cast<std::int32_t>(regs.rax) != -EINTR || static_cast<std::int32_t>(regs.orig_rax) < 0) return false;
  const auto number = static_cast<std::int32_t>(regs.orig_rax);
  bool endless = !is_32 && number == SYS_semop;
  for (const EndlessWait& wait : kEndlessWaits) {
    if (number != (is_32 ? wait.number32 : wait.number)) continue;
    const std::uint64_t timeout = argument(regs, wait.timeout);
    endless = endless || (wait.in_milliseconds ? static_cast<std::int32_t>(timeout) < 0 : timeout == 0);
  }
  if (endless) regs.rax = static_cast<std::uint64_t>(kRestartNoHand);
  return endless;
}

Result<Context> capture(pid_t tid) {
  Context context;
  context.regs = TRY(sys::ptrace::getregs(tid));
  (void)continue_endless_wait(context.regs);
  std::byte buffer[kMaxXstate];
  const std::size_t size = TRY(sys::ptrace::getregset(tid, NT_X86_XSTATE, buffer));
  context.xstate.assign(buffer, buffer + size);
  context.signal_mask = TRY(sys::ptrace::getsigmask(tid));
  return context;
}

Result<> reinstate(pid_t tid, const Context& context) {
  // The mask first: with the registers of before it would be lost if the tracer died in between; without
  // them, the frame brings it.
  TRY(sys::ptrace::setsigmask(tid, context.signal_mask));
  return sys::ptrace::setregs(tid, context.regs);
}

std::uint64_t restart_number(const user_regs_struct& regs) {
  return runs_32_bit_code(regs) ? 0 : SYS_restart_syscall;
}

std::optional<std::int32_t> continuation(const user_regs_struct& regs) {
  if (static_cast<std::int32_t>(regs.orig_rax) < 0) return std::nullopt;
  switch (const auto result = static_cast<std::int32_t>(regs.rax)) {
    case kRestartSys:
    case kRestartNoIntr:
    case kRestartNoHand:
      return result;
    case kRestartBlock:
      if (regs.orig_rax == restart_number(regs)) return std::nullopt;
      return kRestartNoHand;  // the block is lost, and a handler means EINTR in both cases
    default:
      return std::nullopt;
  }
}

bool continue_call(user_regs_struct& regs, std::uint64_t number, std::int32_t continuation) {
  constexpr std::uint64_t kMostCalls = 4096;
  const bool known = continuation == kRestartSys || continuation == kRestartNoIntr || continuation == kRestartNoHand;
  if (!known || number > kMostCalls || regs.rax != number) return false;
  regs.rip += 2;
  regs.orig_rax = number;
  regs.rax = static_cast<std::uint64_t>(std::int64_t{continuation});
  if (runs_32_bit_code(regs)) regs.rax &= 0xffff'ffff;
  return true;
}

user_regs_struct resumable(const user_regs_struct& regs) {
  user_regs_struct out = regs;
  // Numbers and results are 32 bits wide, which 32-bit code has not always extended.
  if (static_cast<std::int32_t>(regs.orig_rax) < 0) return out;
  const long result = runs_32_bit_code(regs) ? static_cast<std::int32_t>(regs.rax) : static_cast<long>(regs.rax);
  switch (result) {
    case kRestartSys:
    case kRestartNoIntr:
    case kRestartNoHand:
      out.rax = regs.orig_rax;
      out.rip -= 2;  // the length of `syscall`, and of `int $0x80`
      break;
    case kRestartBlock:
      // What was left of the timeout is known to the kernel's restart block only, and lost with it. Issued
      // again, the call waits for its full time anew, which no program can tell from a busy machine;
      // EINTR without a handler would be an error it does not expect. A call that had already been
      // continued once can only end so, as nothing says any more which call it was.
      if (regs.orig_rax == restart_number(regs)) {
        out.rax = static_cast<std::uint64_t>(-EINTR);
      } else {
        out.rax = regs.orig_rax;
        out.rip -= 2;
      }
      break;
    default:
      break;
  }
  out.orig_rax = static_cast<std::uint64_t>(-1);
  return out;
}

std::vector<std::byte> frame_xstate(const Context& context) {
  // The regset carries XCR0 in the first of the software bytes.
  std::uint64_t features = 0, in_use = 0;
  std::memcpy(&features, context.xstate.data() + kSoftwareBytes, sizeof features);
  std::memcpy(&in_use, context.xstate.data() + kXstateHeader, sizeof in_use);
  features &= ~(kDynamicFeatures & ~in_use);
  const std::size_t bytes = std::min(context.xstate.size(), standard_size(features));
  std::vector<std::byte> area(context.xstate.begin(), context.xstate.begin() + static_cast<std::ptrdiff_t>(bytes));
  area.resize(bytes + sizeof kMagic2);
  const SoftwareBytes software{kMagic1, static_cast<std::uint32_t>(bytes + sizeof kMagic2), features,
                               static_cast<std::uint32_t>(bytes), {}};
  std::memcpy(area.data() + kSoftwareBytes, &software, sizeof software);
  std::memcpy(area.data() + bytes, &kMagic2, sizeof kMagic2);
  return area;
}

SignalFrame build_frame(const Context& context, std::uint64_t stack, bool on_alternate_stack,
                        std::uint64_t restorer) {
  const std::vector<std::byte> xstate = frame_xstate(context);
  if (!on_alternate_stack) stack -= kRedZone;
  // The extended state must be 64-byte aligned, and the frame as if `call` had pushed its first word.
  const std::uint64_t xstate_at = (stack - xstate.size()) & ~std::uint64_t{63};
  const std::uint64_t frame_at = ((xstate_at - sizeof(KernelFrame)) & ~std::uint64_t{15}) - 8;

  KernelFrame frame{};
  frame.return_address = restorer;
  frame.uc_flags = kUcFpXstate | kUcSigcontextSs | kUcStrictRestoreSs;
  // Not a valid mode: sigreturn then leaves the thread's alternate stack setting alone.
  frame.stack_flags = 7;
  frame.mcontext = to_sigcontext(resumable(context.regs));
  frame.mcontext.fpstate = xstate_at;
  frame.signal_mask = context.signal_mask;

  SignalFrame out;
  out.address = frame_at;
  out.bytes.resize(xstate_at - frame_at + xstate.size());
  std::memcpy(out.bytes.data(), &frame, sizeof frame);
  std::memcpy(out.bytes.data() + (xstate_at - frame_at), xstate.data(), xstate.size());
  return out;
}

SignalFrame build_call_frame(const user_regs_struct& regs, std::uint64_t below, std::uint64_t restorer,
                             std::uint64_t gadget, long number, std::uint64_t arg0, std::uint64_t arg1,
                             std::uint64_t next_frame) {
  user_regs_struct call = regs;
  call.rip = gadget;
  call.rsp = next_frame;
  call.rax = static_cast<std::uint64_t>(number);
  call.rdi = arg0;
  call.rsi = arg1;
  KernelFrame frame{};
  frame.return_address = restorer;
  frame.uc_flags = kUcSigcontextSs | kUcStrictRestoreSs;
  frame.stack_flags = 7;
  frame.mcontext = to_sigcontext(call);
  frame.signal_mask = ~std::uint64_t{0};

  SignalFrame out;
  out.address = ((below - sizeof frame) & ~std::uint64_t{15}) - 8;
  out.bytes.resize(sizeof frame);
  std::memcpy(out.bytes.data(), &frame, sizeof frame);
  return out;
}

}  // namespace dormouse::parasite
