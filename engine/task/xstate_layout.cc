#include "engine/task/xstate_layout.h"

#include <cpuid.h>

#include <cstring>

namespace dormouse::engine {
namespace {

constexpr unsigned kXsaveLeaf = 0xd, kExtendedFeaturesLeaf = 7;
constexpr unsigned kShadowStackBit = 1u << 7;  // of ECX of leaf 7

std::uint64_t xcr0() {
  std::uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low | std::uint64_t{high} << 32;
}

std::uint32_t mxcsr_mask() {
  alignas(16) std::byte area[kLegacyBytes] = {};
  asm volatile("fxsave %0" : "=m"(area));
  std::uint32_t mask = 0;
  std::memcpy(&mask, area + 28, sizeof mask);
  return mask != 0 ? mask : 0xffbf;  // Intel SDM volume 1, 11.6.6: 0 means the first generation's bits
}

XstateLayout read_cpu() {
  XstateLayout layout;
  layout.features = bit(kX87) | bit(kSse);
  layout.mxcsr_mask = mxcsr_mask();
  unsigned a = 0, b = 0, c = 0, d = 0;
  __cpuid_count(1, 0, a, b, c, d);
  const bool xsave = c & bit_OSXSAVE;
  if (__get_cpuid_count(kExtendedFeaturesLeaf, 0, &a, &b, &c, &d))
    layout.shadow_stacks = c & kShadowStackBit;
  if (!xsave) return layout;  // no NT_X86_XSTATE either
  layout.features = xcr0();
  __cpuid_count(kXsaveLeaf, 0, a, b, c, d);
  layout.size_bytes = b;
  for (unsigned i = 2; i < 63; ++i) {
    if (!layout.has(i)) continue;
    __cpuid_count(kXsaveLeaf, i, a, b, c, d);
    layout.components[i] = {b, a};
  }
  return layout;
}

}  // namespace

const XstateLayout& XstateLayout::of_this_cpu() {
  static const XstateLayout layout = read_cpu();  // CPUID traps in a virtual machine: ask once
  return layout;
}

}  // namespace dormouse::engine
