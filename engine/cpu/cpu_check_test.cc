#include "engine/cpu/cpu_check.h"

#include <gtest/gtest.h>

#include "engine/cpu/cpuid_words.h"
#include "images/schema/cpu.pb.h"

namespace dormouse::engine {
namespace {

constexpr CpuChecks kAll{.record = true, .fpu = true, .instructions = true, .exact = true};
constexpr CpuChecks kFpu{.record = true, .fpu = true, .instructions = false, .exact = false};
constexpr CpuChecks kInstructions{.record = true, .fpu = false, .instructions = true, .exact = false};
constexpr CpuChecks kExact{.record = true, .fpu = false, .instructions = false, .exact = true};

// A CPU that nobody made: every second feature.
pb::cpuinfo_x86_entry made_up() {
  pb::cpuinfo_x86_entry cpu;
  cpu.set_vendor_id(pb::cpuinfo_x86_entry::AMD);
  cpu.set_cpu_family(23);
  cpu.set_model(1);
  cpu.set_stepping(2);
  cpu.set_capability_ver(2);
  for (std::size_t i = 0; i < kWordsOfVersion2; ++i) cpu.add_capability(0x55555555);
  cpu.set_xfeatures_mask(7);
  cpu.set_xsave_size(832);
  cpu.set_xsave_size_max(832);
  return cpu;
}

pb::cpuinfo_entry image_of(const pb::cpuinfo_x86_entry& cpu) {
  pb::cpuinfo_entry image;
  *image.add_x86_entry() = cpu;
  return image;
}

std::string verdict(const pb::cpuinfo_entry& image, const pb::cpuinfo_x86_entry& here, const CpuChecks& checks) {
  const Result<> checked = check_cpu(image, here, checks);
  return checked ? "fine" : checked.error().reason();
}

void set_bit(pb::cpuinfo_x86_entry& cpu, CpuidWord word, unsigned bit) {
  const auto index = static_cast<int>(word);
  cpu.set_capability(index, cpu.capability(index) | 1u << bit);
}

TEST(CpuCheckTest, TheSameCpuIsFine) { EXPECT_EQ(verdict(image_of(made_up()), made_up(), kAll), "fine"); }

TEST(CpuCheckTest, ThisMachineIsFineForItself) {
  const pb::cpuinfo_x86_entry here = describe_cpu();
  EXPECT_EQ(here.capability_size(), static_cast<int>(kWordsOfVersion2));
  EXPECT_EQ(verdict(image_of(here), here, kAll), "fine");
}

TEST(CpuCheckTest, MoreInstructionsAreFineLessAreNamed) {
  pb::cpuinfo_x86_entry richer = made_up();
  set_bit(richer, k7Ebx, 5);
  set_bit(richer, k7Ebx, 29);
  EXPECT_EQ(verdict(image_of(made_up()), richer, kInstructions), "fine");
  EXPECT_EQ(verdict(image_of(richer), made_up(), kInstructions),
            "it lacks instructions of the image's CPU: avx2, sha_ni");
  EXPECT_EQ(verdict(image_of(richer), made_up(), kFpu), "fine");
  EXPECT_EQ(verdict(image_of(made_up()), richer, kExact),
            "its features are not exactly those of the image's CPU (word 9, bits 0x20000020)");
}

TEST(CpuCheckTest, ExtendedRegistersMustFit) {
  pb::cpuinfo_x86_entry wide = made_up();
  wide.set_xfeatures_mask(0xe7);
  EXPECT_EQ(verdict(image_of(wide), made_up(), kFpu),
            "it lacks components 0xe0 of the extended registers, which the image's CPU has");
  EXPECT_EQ(verdict(image_of(made_up()), wide, kFpu), "fine");
  wide = made_up();
  wide.set_xsave_size(2696);
  EXPECT_EQ(verdict(image_of(made_up()), wide, kFpu),
            "its extended registers take 2696 bytes, the image's CPU's 832");
  EXPECT_EQ(verdict(image_of(made_up()), wide, kInstructions), "fine");
  pb::cpuinfo_x86_entry managed = made_up();
  set_bit(managed, kD1Eax, 3);
  EXPECT_EQ(verdict(image_of(managed), made_up(), kFpu), "it lacks xsaves, which the image's CPU has");
}

TEST(CpuCheckTest, AnOldRecordIsComparedAsFarAsItGoes) {
  pb::cpuinfo_x86_entry old = made_up();
  old.set_capability_ver(1);
  old.mutable_capability()->Truncate(static_cast<int>(kWordsOfVersion1));
  old.clear_xfeatures_mask();
  old.clear_xsave_size();
  old.clear_xsave_size_max();
  EXPECT_EQ(verdict(image_of(old), made_up(), kAll), "fine");
}

TEST(CpuCheckTest, NonsenseIsNamed) {
  EXPECT_EQ(verdict({}, made_up(), kAll), "0 records of a CPU instead of one");
  pb::cpuinfo_entry other;
  other.add_s390_entry();
  EXPECT_EQ(verdict(other, made_up(), kAll), "the image is of another kind of CPU");
  pb::cpuinfo_x86_entry cpu = made_up();
  cpu.add_capability(0);
  EXPECT_EQ(verdict(image_of(cpu), made_up(), kAll), "20 words of the CPU's capabilities instead of 19");
  cpu.set_capability_ver(3);
  EXPECT_EQ(verdict(image_of(cpu), made_up(), kAll), "unknown version 3 of the CPU's capabilities");
  cpu.set_vendor_id(pb::cpuinfo_x86_entry::UNKNOWN);
  EXPECT_EQ(verdict(image_of(cpu), made_up(), kAll), "unknown vendor of the CPU");
}

}  // namespace
}  // namespace dormouse::engine
