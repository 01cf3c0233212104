// Signal frames of threads that run 32-bit code, and the system calls they make outside the interpreter.
//
// The kernel lets 32-bit code return from its own kind of frame only, and seccomp filters of 32-bit programs know only
// i386 system calls. So the way home of such a thread is an i386 one, while the interpreter itself is 64-bit code.
#pragma once

#include <sys/user.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "parasite/host/context.h"

namespace dormouse::parasite {

// i386 numbers of the calls that threads make outside the interpreter.
inline constexpr long kMunmap32 = 91, kMprotect32 = 125, kMmap32 = 192 /* mmap2 */, kFutex32 = 240, kExit32 = 1;

// What context.h says of build_frame() and build_call_frame(), for struct rt_sigframe_ia32, or for the older struct
// sigframe_ia32. `pops`: bytes that the gadget takes off the stack before it returns; the frame begins with as many, and
// its own return address follows.
enum class FrameKind : std::uint8_t { kRealTime, kOld };
SignalFrame build_frame32(const Context& context, std::uint64_t stack, std::uint64_t restorer, std::uint32_t pops,
                          FrameKind kind = FrameKind::kRealTime);
SignalFrame build_call_frame32(const user_regs_struct& regs, std::uint64_t below, std::uint64_t restorer,
                               std::uint32_t pops, std::uint64_t gadget, long number, std::uint64_t arg0,
                               std::uint64_t arg1, std::uint64_t next_frame);

// The x87 tag word of two bits a register, of FXSAVE's one bit, status word and registers (16 bytes each).
std::uint16_t full_tag_word(std::uint8_t tags, std::uint16_t status, std::span<const std::byte> registers);

}  // namespace dormouse::parasite
