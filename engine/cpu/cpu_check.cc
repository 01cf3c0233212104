#include "engine/cpu/cpu_check.h"

#include <string>
#include <vector>

#include "base/format.h"
#include "engine/cpu/cpuid_words.h"
#include "images/schema/cpu.pb.h"

namespace dormouse::engine {
namespace {

struct CpuFeature {
  CpuidWord word;
  unsigned bit;
  std::string_view name;  // as /proc/cpuinfo has it
};

// Instructions that programs may find and use. Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E.
constexpr CpuFeature kInstructions[] = {
    {k1Edx, 0, "fpu"}, {k1Edx, 4, "tsc"}, {k1Edx, 8, "cx8"}, {k1Edx, 11, "sep"}, {k1Edx, 15, "cmov"},
    {k1Edx, 19, "clflush"}, {k1Edx, 23, "mmx"}, {k1Edx, 24, "fxsr"}, {k1Edx, 25, "sse"}, {k1Edx, 26, "sse2"},
    {k80000001Edx, 11, "syscall"}, {k80000001Edx, 22, "mmxext"}, {k80000001Edx, 27, "rdtscp"},
    {k80000001Edx, 30, "3dnowext"}, {k80000001Edx, 31, "3dnow"},
    {kLinux1, 20, "nopl"},
    {k1Ecx, 0, "pni"}, {k1Ecx, 1, "pclmulqdq"}, {k1Ecx, 9, "ssse3"}, {k1Ecx, 12, "fma"}, {k1Ecx, 13, "cx16"},
    {k1Ecx, 19, "sse4_1"}, {k1Ecx, 20, "sse4_2"}, {k1Ecx, 22, "movbe"}, {k1Ecx, 23, "popcnt"}, {k1Ecx, 25, "aes"},
    {k1Ecx, 26, "xsave"}, {k1Ecx, 27, "osxsave"}, {k1Ecx, 28, "avx"}, {k1Ecx, 29, "f16c"}, {k1Ecx, 30, "rdrand"},
    {k80000001Ecx, 5, "abm"}, {k80000001Ecx, 6, "sse4a"}, {k80000001Ecx, 7, "misalignsse"},
    {k80000001Ecx, 8, "3dnowprefetch"}, {k80000001Ecx, 11, "xop"}, {k80000001Ecx, 16, "fma4"},
    {k80000001Ecx, 21, "tbm"},
    {k7Ebx, 0, "fsgsbase"}, {k7Ebx, 3, "bmi1"}, {k7Ebx, 4, "hle"}, {k7Ebx, 5, "avx2"}, {k7Ebx, 8, "bmi2"},
    {k7Ebx, 11, "rtm"}, {k7Ebx, 14, "mpx"}, {k7Ebx, 16, "avx512f"}, {k7Ebx, 17, "avx512dq"}, {k7Ebx, 18, "rdseed"},
    {k7Ebx, 19, "adx"}, {k7Ebx, 21, "avx512ifma"}, {k7Ebx, 23, "clflushopt"}, {k7Ebx, 24, "clwb"},
    {k7Ebx, 26, "avx512pf"}, {k7Ebx, 27, "avx512er"}, {k7Ebx, 28, "avx512cd"}, {k7Ebx, 29, "sha_ni"},
    {k7Ebx, 30, "avx512bw"}, {k7Ebx, 31, "avx512vl"},
    {kD1Eax, 0, "xsaveopt"}, {kD1Eax, 1, "xsavec"}, {kD1Eax, 2, "xgetbv1"},
    {k7Ecx, 1, "avx512vbmi"}, {k7Ecx, 4, "ospke"}, {k7Ecx, 5, "waitpkg"}, {k7Ecx, 6, "avx512_vbmi2"},
    {k7Ecx, 8, "gfni"}, {k7Ecx, 9, "vaes"}, {k7Ecx, 10, "vpclmulqdq"}, {k7Ecx, 11, "avx512_vnni"},
    {k7Ecx, 12, "avx512_bitalg"}, {k7Ecx, 14, "avx512_vpopcntdq"}, {k7Ecx, 22, "rdpid"},
    {k7Ecx, 27, "movdiri"}, {k7Ecx, 28, "movdir64b"},
    {k80000008Ebx, 0, "clzero"}, {k80000008Ebx, 9, "wbnoinvd"},
    {k7Edx, 2, "avx512_4vnniw"}, {k7Edx, 3, "avx512_4fmaps"}, {k7Edx, 8, "avx512_vp2intersect"},
    {k7Edx, 14, "serialize"}, {k7Edx, 22, "amx_bf16"}, {k7Edx, 23, "avx512_fp16"}, {k7Edx, 24, "amx_tile"},
    {k7Edx, 25, "amx_int8"},
};

// How the extended state is kept and managed.
constexpr CpuFeature kStateFeatures[] = {
    {k1Edx, 0, "fpu"}, {k1Edx, 24, "fxsr"}, {k1Ecx, 27, "osxsave"}, {kD1Eax, 3, "xsaves"},
};

bool has(const pb::cpuinfo_x86_entry& cpu, CpuidWord word, unsigned bit) {
  const auto index = static_cast<int>(word);
  return index < cpu.capability_size() && (cpu.capability(index) >> bit & 1);
}

// Words that an old record has not are nothing to compare.
template <std::size_t kCount>
std::string missing(const CpuFeature (&features)[kCount], const pb::cpuinfo_x86_entry& image,
                    const pb::cpuinfo_x86_entry& here) {
  std::string names;
  for (const CpuFeature& feature : features)
    if (has(image, feature.word, feature.bit) && !has(here, feature.word, feature.bit))
      names += format("{}{}", names.empty() ? "" : ", ", feature.name);
  return names;
}

Failure differs(std::string how) {
  return fail(Error::unsupported(std::move(how))
                  .object("CPU")
                  .remedy("restore on a node with such a CPU, or take the risk with --cpu-cap=none"));
}

Result<> check_record(const pb::cpuinfo_entry& image) {
  const auto corrupt = [](std::string what) { return fail(Error::corrupt(std::move(what)).object("cpuinfo.img")); };
  if (image.x86_entry_size() != 1)
    return image.ppc64_entry_size() + image.s390_entry_size() > 0
               ? fail(Error::unsupported("the image is of another kind of CPU").remedy("restore it on that kind"))
               : corrupt(format("{} records of a CPU instead of one", image.x86_entry_size()));
  const pb::cpuinfo_x86_entry& cpu = image.x86_entry(0);
  if (cpu.vendor_id() == pb::cpuinfo_x86_entry::UNKNOWN) return corrupt("unknown vendor of the CPU");
  const std::uint32_t version = cpu.capability_ver();
  if (version != 1 && version != 2) return corrupt(format("unknown version {} of the CPU's capabilities", version));
  const std::size_t words = version == 1 ? kWordsOfVersion1 : kWordsOfVersion2;
  if (static_cast<std::size_t>(cpu.capability_size()) != words)
    return corrupt(format("{} words of the CPU's capabilities instead of {}", cpu.capability_size(), words));
  return {};
}

Result<> check_state(const pb::cpuinfo_x86_entry& image, const pb::cpuinfo_x86_entry& here) {
  if (const std::string names = missing(kStateFeatures, image, here); !names.empty())
    return differs(format("it lacks {}, which the image's CPU has", names));
  if (image.has_xfeatures_mask())
    if (const std::uint64_t lacking = image.xfeatures_mask() & ~here.xfeatures_mask(); lacking != 0)
      return differs(format("it lacks components {:#x} of the extended registers, which the image's CPU has", lacking));
  // Programs ask for the size once and save as many registers as there are: a larger state would overrun
  // their buffers.
  if (image.has_xsave_size() && image.xsave_size() != here.xsave_size())
    return differs(format("its extended registers take {} bytes, the image's CPU's {}", here.xsave_size(),
                          image.xsave_size()));
  if (image.has_xsave_size_max() && image.xsave_size_max() != here.xsave_size_max())
    return differs(format("its extended registers take at most {} bytes, the image's CPU's {}",
                          here.xsave_size_max(), image.xsave_size_max()));
  return {};
}

}  // namespace

Result<> check_cpu(const pb::cpuinfo_entry& image, const pb::cpuinfo_x86_entry& here, const CpuChecks& checks) {
  TRY(check_record(image));
  const pb::cpuinfo_x86_entry& cpu = image.x86_entry(0);
  if (checks.fpu) TRY(check_state(cpu, here));
  if (checks.instructions)
    if (const std::string names = missing(kInstructions, cpu, here); !names.empty())
      return differs(format("it lacks instructions of the image's CPU: {}", names));
  if (checks.exact)
    for (int i = 0; i < cpu.capability_size() && i < here.capability_size(); ++i)
      if (const std::uint32_t different = cpu.capability(i) ^ here.capability(i); different != 0)
        return differs(format("its features are not exactly those of the image's CPU (word {}, bits {:#x})", i,
                              different));
  return {};
}

}  // namespace dormouse::engine
