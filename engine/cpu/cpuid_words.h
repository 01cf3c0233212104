// What this CPU says of itself, as cpuinfo.img has it.
#pragma once

#include <cstddef>

namespace dormouse::pb {
class cpuinfo_x86_entry;
}  // namespace dormouse::pb

namespace dormouse::engine {

// Indexes of cpuinfo_x86_entry.capability: Linux' words of CPU features (arch/x86/include/asm/cpufeatures.h), as
// the kernels had them that the format was made for.
enum CpuidWord : std::size_t {
  k1Edx = 0,
  k80000001Edx = 1,
  kLinux1 = 3,
  k1Ecx = 4,
  k80000001Ecx = 6,
  k7Ebx = 9,
  kD1Eax = 10,
  k7Ecx = 11,
  kF1Edx = 12,
  k80000008Ebx = 13,
  k6Eax = 14,
  k8000000aEdx = 15,
  kF0Edx = 16,
  k80000007Ebx = 17,
  k7Edx = 18,
};
// Of the two versions of the format (capability_ver).
inline constexpr std::size_t kWordsOfVersion1 = 12, kWordsOfVersion2 = 19;

pb::cpuinfo_x86_entry describe_cpu();

}  // namespace dormouse::engine
