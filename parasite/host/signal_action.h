// What rt_sigaction() takes and gives: the kernel's struct sigaction, not the C library's.
#pragma once

#include <cstdint>

namespace dormouse::parasite {

inline constexpr std::uint64_t kMaskBytes = 8;  // of a signal mask, as system calls want to hear it

struct SignalAction {
  std::uint64_t handler = 0, flags = 0, restorer = 0, mask = 0;
};

// What 32-bit code passes (struct compat_sigaction). Handlers are called as the code that set them is: with an i386 frame.
struct SignalAction32 {
  // Of addresses below 4 GiB.
  explicit SignalAction32(const SignalAction& action)
      : handler(low(action.handler)), flags(low(action.flags)), restorer(low(action.restorer)),
        mask{low(action.mask), low(action.mask >> 32)} {}
  std::uint32_t handler, flags, restorer, mask[2];

 private:
  static std::uint32_t low(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
};
static_assert(sizeof(SignalAction32) == 20);
inline constexpr long kSigaction32 = 174;  // rt_sigaction of i386

}  // namespace dormouse::parasite
