// Where this CPU keeps the components of the extended state in the standard (uncompacted) XSAVE layout,
// which is what PTRACE_GETREGSET and PTRACE_SETREGSET of NT_X86_XSTATE speak. Offsets differ from CPU to
// CPU, so an image holds components, never offsets.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace dormouse::engine {

// Numbers of XSAVE state components (Intel SDM volume 1, 13.1).
enum Xstate : unsigned {
  kX87 = 0,
  kSse = 1,
  kYmmHigh = 2,
  kBndRegs = 3,
  kBndCsr = 4,
  kOpmask = 5,
  kZmmHigh256 = 6,
  kHi16Zmm = 7,
  kPkru = 9,
  kTileConfig = 17,
  kTileData = 18,
};
constexpr std::uint64_t bit(unsigned component) { return std::uint64_t{1} << component; }

// The FXSAVE area, and the header that follows it.
inline constexpr std::size_t kLegacyBytes = 512, kXsaveHeaderBytes = 64;

struct XstateLayout {
  struct Component {
    std::uint32_t offset = 0, size = 0;  // bytes
  };
  std::uint64_t features = 0;   // components the kernel has enabled (XCR0)
  std::size_t size_bytes = 0;   // exactly what SETREGSET demands
  std::uint32_t mxcsr_mask = 0;  // bits of MXCSR that may be set
  bool shadow_stacks = false;   // the CPU knows CET shadow stacks
  std::array<Component, 64> components{};

  bool has(unsigned component) const { return features & bit(component); }
  static const XstateLayout& of_this_cpu();
};

}  // namespace dormouse::engine
