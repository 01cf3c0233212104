#include "shim/oci_device_filter.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <ranges>

#include "kernel/file.h"

namespace dormouse::shim {
namespace {

constexpr std::uint32_t kAllAccess = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;

// What the registers hold from the prologue on. r1 is free then, r0 is the answer.
enum Register : unsigned char { kAnswer = 0, kScratch = 1, kType = 2, kAccess = 3, kMajor = 4, kMinor = 5 };

bpf_insn load(Register to, std::size_t offset) {  // from the context, which r1 points to at first
  return {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = to, .src_reg = kScratch, .off = static_cast<short>(offset), .imm = 0};
}
bpf_insn compute(int operation, Register to, std::uint32_t value) {
  return {.code = static_cast<__u8>(BPF_ALU | BPF_K | operation), .dst_reg = to, .src_reg = 0, .off = 0,
          .imm = static_cast<int>(value)};
}
bpf_insn copy(Register to, Register from) {
  return {.code = BPF_ALU | BPF_X | BPF_MOV, .dst_reg = to, .src_reg = from, .off = 0, .imm = 0};
}
// Jumps are aimed at the end of a rule once its length is known.
bpf_insn jump_unless_equal(Register one, std::uint32_t value) {
  return {.code = BPF_JMP32 | BPF_K | BPF_JNE, .dst_reg = one, .src_reg = 0, .off = 0, .imm = static_cast<int>(value)};
}
bpf_insn jump_unless_same(Register one, Register other) {
  return {.code = BPF_JMP32 | BPF_X | BPF_JNE, .dst_reg = one, .src_reg = other, .off = 0, .imm = 0};
}
bpf_insn exit_program() { return {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}; }

std::uint32_t access_bits(const std::string& access) {
  std::uint32_t bits = 0;
  for (const char c : access) bits |= c == 'r' ? BPF_DEVCG_ACC_READ : c == 'w' ? BPF_DEVCG_ACC_WRITE : BPF_DEVCG_ACC_MKNOD;
  return bits;
}

void add_rule(const oci::DeviceRule& rule, std::vector<bpf_insn>& program) {
  const std::size_t begin = program.size();
  if (rule.type != 'a') {
    program.push_back(jump_unless_equal(kType, rule.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR));
    if (const auto bits = access_bits(rule.access); bits != kAllAccess) {
      // All that is wanted must be among what the rule speaks of.
      program.push_back(copy(kScratch, kAccess));
      program.push_back(compute(BPF_AND, kScratch, bits));
      program.push_back(jump_unless_same(kScratch, kAccess));
    }
    if (rule.major) program.push_back(jump_unless_equal(kMajor, static_cast<std::uint32_t>(*rule.major)));
    if (rule.minor) program.push_back(jump_unless_equal(kMinor, static_cast<std::uint32_t>(*rule.minor)));
  }
  program.push_back(compute(BPF_MOV, kAnswer, rule.allow ? 1 : 0));
  program.push_back(exit_program());
  for (std::size_t i = begin; i < program.size(); ++i)
    if ((program[i].code & 0x07) == BPF_JMP32) program[i].off = static_cast<short>(program.size() - i - 1);
}

int bpf(int command, bpf_attr& attributes) {
  return static_cast<int>(::syscall(SYS_bpf, command, &attributes, sizeof attributes));
}

Result<Fd> load_program(const std::vector<bpf_insn>& program) {
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attributes.insns = reinterpret_cast<std::uintptr_t>(program.data());
  attributes.insn_cnt = static_cast<__u32>(program.size());
  attributes.license = reinterpret_cast<std::uintptr_t>("Apache");  // calls no helper, so any will do
  Fd fd(bpf(BPF_PROG_LOAD, attributes));
  if (!fd) return fail(Error::kernel("bpf program load", errno));
  return fd;
}

}  // namespace

std::vector<bpf_insn> device_filter(std::span<const oci::DeviceRule> rules) {
  std::vector<bpf_insn> program = {
      load(kType, offsetof(bpf_cgroup_dev_ctx, access_type)),
      copy(kAccess, kType),
      compute(BPF_AND, kType, 0xffff),
      compute(BPF_RSH, kAccess, 16),
      load(kMajor, offsetof(bpf_cgroup_dev_ctx, major)),
      load(kMinor, offsetof(bpf_cgroup_dev_ctx, minor)),
  };
  bool decided = false;
  for (const auto& rule : std::views::reverse(rules)) {
    add_rule(rule, program);
    // Nothing behind a rule for everything is ever reached, and the kernel refuses such code.
    if ((decided = rule.type == 'a')) break;
  }
  if (!decided) add_rule({false, 'a', {}, {}, "rwm"}, program);
  return program;
}

Result<> attach_device_filter(const std::string& cgroup_directory, std::span<const oci::DeviceRule> rules) {
  const Fd directory = TRY(sys::openat(AT_FDCWD, cgroup_directory, O_RDONLY | O_DIRECTORY));
  const Fd program = TRY(load_program(device_filter(rules)));
  bpf_attr attributes{};
  attributes.target_fd = static_cast<__u32>(directory.get());
  attributes.attach_bpf_fd = static_cast<__u32>(program.get());
  attributes.attach_type = BPF_CGROUP_DEVICE;
  attributes.attach_flags = BPF_F_ALLOW_MULTI;
  if (bpf(BPF_PROG_ATTACH, attributes) < 0) return fail(Error::kernel("bpf program attach", errno));
  return {};
}

}  // namespace dormouse::shim
