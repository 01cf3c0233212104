#include "shim/oci_device_filter.h"

#include <gtest/gtest.h>

#include <array>

#include "oci/cgroup_settings.h"

namespace dormouse::shim {
namespace {

// A machine for the few instructions that such programs are made of.
int run(const std::vector<bpf_insn>& program, const bpf_cgroup_dev_ctx& context) {
  std::array<std::uint64_t, 11> r{};
  for (std::size_t at = 0; at < program.size(); ++at) {
    const bpf_insn& i = program[at];
    const auto value = static_cast<std::uint32_t>((i.code & BPF_X) ? r[i.src_reg] : static_cast<std::uint32_t>(i.imm));
    switch (i.code & ~BPF_X) {
      case BPF_LDX | BPF_MEM | BPF_W:
        r[i.dst_reg] = *reinterpret_cast<const std::uint32_t*>(reinterpret_cast<const char*>(&context) + i.off);
        break;
      case BPF_ALU | BPF_AND: r[i.dst_reg] = static_cast<std::uint32_t>(r[i.dst_reg]) & value; break;
      case BPF_ALU | BPF_RSH: r[i.dst_reg] = static_cast<std::uint32_t>(r[i.dst_reg]) >> value; break;
      case BPF_ALU | BPF_MOV: r[i.dst_reg] = value; break;
      case BPF_JMP32 | BPF_JNE:
        if (static_cast<std::uint32_t>(r[i.dst_reg]) != value) at += static_cast<std::size_t>(i.off);
        break;
      case BPF_JMP | BPF_EXIT: return static_cast<int>(r[0]);
      default: ADD_FAILURE() << "instruction " << int{i.code}; return -1;
    }
  }
  ADD_FAILURE() << "the program runs off its end";
  return -1;
}

bool allows(const std::vector<oci::DeviceRule>& rules, char type, std::uint32_t major, std::uint32_t minor,
            std::uint32_t access) {
  const std::uint32_t kind = type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR;
  return run(device_filter(rules), {(access << 16) | kind, major, minor}) == 1;
}
constexpr std::uint32_t kRead = BPF_DEVCG_ACC_READ, kWrite = BPF_DEVCG_ACC_WRITE, kMknod = BPF_DEVCG_ACC_MKNOD;

TEST(DeviceFilter, WithoutRulesNothingIsAllowed) { EXPECT_FALSE(allows({}, 'c', 1, 3, kRead)); }

TEST(DeviceFilter, ARuleAllowsWhatItNamesAndNothingElse) {
  const std::vector<oci::DeviceRule> rules = {{false, 'a', {}, {}, "rwm"}, {true, 'c', 10, 229, "rw"}};
  EXPECT_TRUE(allows(rules, 'c', 10, 229, kRead));
  EXPECT_TRUE(allows(rules, 'c', 10, 229, kRead | kWrite));
  EXPECT_FALSE(allows(rules, 'c', 10, 229, kMknod));
  EXPECT_FALSE(allows(rules, 'c', 10, 229, kRead | kMknod));
  EXPECT_FALSE(allows(rules, 'c', 10, 228, kRead));
  EXPECT_FALSE(allows(rules, 'c', 11, 229, kRead));
  EXPECT_FALSE(allows(rules, 'b', 10, 229, kRead));
}

TEST(DeviceFilter, NoNumberMeansAny) {
  const std::vector<oci::DeviceRule> rules = {{true, 'b', 8, {}, "r"}};
  EXPECT_TRUE(allows(rules, 'b', 8, 0, kRead));
  EXPECT_TRUE(allows(rules, 'b', 8, 77, kRead));
  EXPECT_FALSE(allows(rules, 'b', 8, 0, kWrite));
}

TEST(DeviceFilter, TheLastRuleDecides) {
  const std::vector<oci::DeviceRule> rules = {{true, 'a', {}, {}, "rwm"}, {false, 'c', 1, 3, "rwm"}};
  EXPECT_FALSE(allows(rules, 'c', 1, 3, kRead));
  EXPECT_TRUE(allows(rules, 'c', 1, 5, kRead));
}

TEST(DeviceFilter, EveryContainerHasItsUsualNodes) {
  const auto rules = oci::effective_device_rules({});
  EXPECT_TRUE(allows(rules, 'c', 1, 3, kRead | kWrite));
  EXPECT_TRUE(allows(rules, 'c', 136, 12, kRead | kWrite));
  EXPECT_TRUE(allows(rules, 'b', 8, 0, kMknod));
  EXPECT_FALSE(allows(rules, 'b', 8, 0, kRead));
}

TEST(DeviceFilter, NothingStandsBehindARuleForEverything) {
  const std::vector<oci::DeviceRule> rules = {{true, 'c', 1, 3, "rwm"}, {false, 'a', {}, {}, "rwm"}};
  EXPECT_EQ(device_filter(rules).size(), device_filter({}).size()) << "the kernel refuses unreachable code";
  EXPECT_FALSE(allows(rules, 'c', 1, 3, kRead));
}

}  // namespace
}  // namespace dormouse::shim
