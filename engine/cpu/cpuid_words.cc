#include "engine/cpu/cpuid_words.h"

#include <cpuid.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "engine/task/xstate_layout.h"
#include "images/schema/cpu.pb.h"

namespace dormouse::engine {
namespace {

struct Answer {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

// Zeros for a leaf that the CPU does not have.
Answer ask(unsigned leaf, unsigned subleaf = 0) {
  Answer answer;
  if (!__get_cpuid_count(leaf, subleaf, &answer.a, &answer.b, &answer.c, &answer.d)) return {};
  return answer;
}

std::string vendor_text() {
  const Answer answer = ask(0);
  const unsigned parts[] = {answer.b, answer.d, answer.c};
  return {reinterpret_cast<const char*>(parts), sizeof parts};
}

pb::cpuinfo_x86_entry::vendor vendor_of(std::string_view text) {
  if (text == "GenuineIntel") return pb::cpuinfo_x86_entry::INTEL;
  if (text == "AuthenticAMD" || text == "HygonGenuine") return pb::cpuinfo_x86_entry::AMD;
  return pb::cpuinfo_x86_entry::UNKNOWN;
}

// Intel right-justifies it.
std::string model_name() {
  unsigned words[12] = {};
  for (unsigned i = 0; i < 3; ++i) {
    const Answer part = ask(0x80000002 + i);
    const unsigned four[] = {part.a, part.b, part.c, part.d};
    std::memcpy(words + 4 * i, four, sizeof four);
  }
  std::string_view text(reinterpret_cast<const char*>(words), sizeof words);
  text = text.substr(0, text.find('\0'));
  const std::size_t begin = text.find_first_not_of(' ');
  return begin == std::string_view::npos ? "" : std::string(text.substr(begin));
}

void describe_model(const Answer& leaf1, pb::cpuinfo_x86_entry& to) {
  std::uint32_t family = leaf1.a >> 8 & 0xf, model = leaf1.a >> 4 & 0xf;
  if (family == 0xf) family += leaf1.a >> 20 & 0xff;
  if (family >= 6) model += (leaf1.a >> 16 & 0xf) << 4;
  to.set_cpu_family(family);
  to.set_model(model);
  to.set_stepping(leaf1.a & 0xf);
}

// Bits that no CPUID leaf has: the kernel sets them for what it knows of the CPU.
std::uint32_t linux_word(pb::cpuinfo_x86_entry::vendor vendor, std::uint32_t family) {
  constexpr std::uint32_t kRepIsFast = 1u << 16, kNopl = 1u << 20, kCpuid = 1u << 25;
  const bool rep = vendor == pb::cpuinfo_x86_entry::INTEL ? family == 6
                                                          : vendor == pb::cpuinfo_x86_entry::AMD && family >= 0x10;
  return kNopl | kCpuid | (rep ? kRepIsFast : 0);
}

// Components of the extended state that the format has a place for. It leaves out two: SSE, which every 64-bit CPU
// has, and the MPX bounds, which come with their configuration. The reference engine refuses a record with either.
constexpr std::uint64_t kSavedComponents = bit(kX87) | bit(kYmmHigh) | bit(kBndCsr) | bit(kOpmask) |
                                           bit(kZmmHigh256) | bit(kHi16Zmm) | bit(kPkru);

void describe_state(pb::cpuinfo_x86_entry& to) {
  const Answer leaf = ask(0xd);
  to.set_xfeatures_mask((leaf.a | std::uint64_t{leaf.d} << 32) & kSavedComponents);
  to.set_xsave_size(leaf.b);
  to.set_xsave_size_max(leaf.c);
}

}  // namespace

pb::cpuinfo_x86_entry describe_cpu() {
  pb::cpuinfo_x86_entry cpu;
  const Answer leaf1 = ask(1), leaf7 = ask(7), extended1 = ask(0x80000001);
  cpu.set_vendor_id(vendor_of(vendor_text()));
  describe_model(leaf1, cpu);
  cpu.set_capability_ver(2);
  std::uint32_t words[kWordsOfVersion2] = {};
  words[k1Edx] = leaf1.d;
  // AMD once said "3DNow" there; the kernel takes the bit from the extended leaf only.
  if (cpu.vendor_id() == pb::cpuinfo_x86_entry::AMD) words[k1Edx] &= ~(1u << 31);
  words[k1Ecx] = leaf1.c;
  words[k80000001Edx] = extended1.d;
  words[k80000001Ecx] = extended1.c;
  words[kLinux1] = linux_word(cpu.vendor_id(), cpu.cpu_family());
  words[k7Ebx] = leaf7.b, words[k7Ecx] = leaf7.c, words[k7Edx] = leaf7.d;
  words[kD1Eax] = ask(0xd, 1).a;
  words[kF0Edx] = ask(0xf).d;
  if (words[kF0Edx] & 2) words[kF1Edx] = ask(0xf, 1).d;
  words[k6Eax] = ask(6).a;
  words[k80000007Ebx] = ask(0x80000007).b;
  words[k80000008Ebx] = ask(0x80000008).b;
  words[k8000000aEdx] = ask(0x8000000a).d;
  for (const std::uint32_t word : words) cpu.add_capability(word);
  if (const std::string name = model_name(); !name.empty()) cpu.set_model_id(name);
  describe_state(cpu);
  return cpu;
}

}  // namespace dormouse::engine
