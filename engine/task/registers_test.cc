#include "engine/task/registers.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "images/schema/task.pb.h"
#include "kernel/ptrace.h"

#include <elf.h>

namespace dormouse::engine {
namespace {

// A CPU with AVX and protection keys, whose layout no real one has.
XstateLayout avx_cpu() {
  XstateLayout cpu;
  cpu.features = bit(kX87) | bit(kSse) | bit(kYmmHigh) | bit(kPkru);
  cpu.size_bytes = 1024;
  cpu.mxcsr_mask = 0xffff;
  cpu.components[kYmmHigh] = {640, 256};
  cpu.components[kPkru] = {576, 8};
  return cpu;
}

parasite::Context context_on(const XstateLayout& cpu, std::uint64_t in_use) {
  parasite::Context context;
  context.regs.rip = 0x401000;
  context.regs.rsp = 0x7ffd0000;
  context.regs.cs = 0x33;
  context.regs.ss = 0x2b;
  context.regs.eflags = 0x246;
  context.regs.orig_rax = static_cast<std::uint64_t>(-1);
  context.xstate.resize(cpu.size_bytes);
  for (std::size_t i = 0; i < context.xstate.size(); ++i) context.xstate[i] = static_cast<std::byte>(i * 7);
  const std::uint32_t mxcsr[2] = {0x1f80, 0xffff};
  std::memcpy(context.xstate.data() + 24, mxcsr, sizeof mxcsr);
  std::memset(context.xstate.data() + 416, 0, 96 + 64);
  std::memcpy(context.xstate.data() + 512, &in_use, sizeof in_use);
  return context;
}

pb::core_entry saved(const XstateLayout& cpu, const parasite::Context& context) {
  pb::core_entry core;
  core.set_mtype(pb::core_entry::X86_64);
  core.mutable_thread_info()->set_clear_tid_addr(0);
  const Result<> done = save_registers(cpu, context, *core.mutable_thread_info());
  EXPECT_TRUE(done) << done.error().message();
  return core;
}

TEST(RegistersTest, ComponentsFindTheirPlaceOnACpuWithAnotherLayout) {
  const XstateLayout here = avx_cpu();
  XstateLayout there = avx_cpu();
  there.components[kYmmHigh] = {704, 256};
  there.components[kPkru] = {960, 8};
  const parasite::Context context = context_on(here, 0x207);
  const auto registers = registers_for(there, saved(here, context));
  ASSERT_TRUE(registers) << registers.error().message();
  ASSERT_EQ(registers->xstate.size(), there.size_bytes);
  EXPECT_EQ(std::memcmp(registers->xstate.data() + 704, context.xstate.data() + 640, 256), 0);
  EXPECT_EQ(std::memcmp(registers->xstate.data() + 960, context.xstate.data() + 576, 8), 0);
  EXPECT_EQ(std::memcmp(registers->xstate.data(), context.xstate.data(), 416), 0);
}

TEST(RegistersTest, AnUnusedComponentIsNoObstacleAUsedOneIs) {
  const XstateLayout here = avx_cpu();
  XstateLayout there = here;
  there.features &= ~bit(kYmmHigh);
  EXPECT_TRUE(registers_for(there, saved(here, context_on(here, 0x203))));
  parasite::Context zeros = context_on(here, 0x207);  // in use by the header, yet as a new thread has it
  std::memset(zeros.xstate.data() + 640, 0, 256);
  EXPECT_TRUE(registers_for(there, saved(here, zeros)));
  const auto used = registers_for(there, saved(here, context_on(here, 0x207)));
  ASSERT_FALSE(used);
  EXPECT_EQ(used.error().message(),
            "AVX registers are in use, which this CPU (or its kernel) lacks (restore on a node whose CPU has them)");
}

TEST(RegistersTest, ProtectionKeysStartDeniedWhereTheImageHasNone) {
  XstateLayout here = avx_cpu();
  here.features &= ~bit(kPkru);
  const auto registers = registers_for(avx_cpu(), saved(here, context_on(here, 0x3)));
  ASSERT_TRUE(registers);
  std::uint64_t pkru = 0;
  std::memcpy(&pkru, registers->xstate.data() + 576, sizeof pkru);
  EXPECT_EQ(pkru, 0x55555554u);
}

TEST(RegistersTest, AmxTilesAreRefusedByName) {
  const XstateLayout here = avx_cpu();
  pb::thread_info_x86 info;
  const Result<> refused = save_registers(here, context_on(here, 0x3 | bit(kTileData)), info);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("AMX tiles"), std::string::npos);
}

TEST(RegistersTest, AnInterruptedSystemCallIsIssuedAgain) {
  const XstateLayout cpu = avx_cpu();
  parasite::Context context = context_on(cpu, 0x3);
  context.regs.rip = 0x401002;
  context.regs.orig_rax = SYS_wait4;
  context.regs.rax = static_cast<std::uint64_t>(-512);
  const pb::core_entry core = saved(cpu, context);
  EXPECT_EQ(core.thread_info().gpregs().ip(), 0x401000u);
  EXPECT_EQ(core.thread_info().gpregs().ax(), static_cast<std::uint64_t>(SYS_wait4));
  EXPECT_EQ(core.thread_info().gpregs().orig_ax(), static_cast<std::uint64_t>(SYS_wait4));
  // Set on a puppet, a system call number would make the kernel restart the puppet's own call.
  EXPECT_EQ(registers_for(cpu, core)->general.orig_rax, static_cast<std::uint64_t>(-1));
}

TEST(RegistersTest, Of32BitCodeTheLowerHalvesAreSaved) {
  const XstateLayout cpu = avx_cpu();
  parasite::Context context = context_on(cpu, 0x3);
  context.regs.cs = 0x23, context.regs.ds = context.regs.es = context.regs.ss = 0x2b, context.regs.gs = 0x63;
  context.regs.gs_base = 0x8100000;
  context.regs.r15 = 0x1234;
  context.regs.rip = 0xf7fc9549, context.regs.rsp = 0xffffd000;
  context.regs.orig_rax = 162;  // nanosleep of i386
  context.regs.rax = static_cast<std::uint64_t>(-516);
  const pb::core_entry core = saved(cpu, context);
  const auto& saved_registers = core.thread_info().gpregs();
  EXPECT_EQ(saved_registers.mode(), pb::COMPAT);
  EXPECT_EQ(saved_registers.ip(), 0xf7fc9547u);
  EXPECT_EQ(saved_registers.ax(), 162u);
  EXPECT_EQ(saved_registers.r15() + saved_registers.gs_base() + saved_registers.fs_base(), 0u);
  const auto registers = registers_for(cpu, core);
  ASSERT_TRUE(registers);
  EXPECT_EQ(registers->general.cs, 0x23u);
  EXPECT_EQ(registers->general.gs, 0x63u);
  EXPECT_EQ(registers->general.ds, 0x2bu);
  EXPECT_EQ(registers->general.orig_rax, static_cast<std::uint64_t>(-1));
}

TEST(RegistersTest, AContinuedCallOf32BitCodeEndsWithEintr) {
  const XstateLayout cpu = avx_cpu();
  parasite::Context context = context_on(cpu, 0x3);
  context.regs.cs = 0x23;
  context.regs.orig_rax = 0;  // restart_syscall of i386
  context.regs.rax = static_cast<std::uint32_t>(-516);  // not extended
  context.regs.rip = 0x1000;
  const pb::core_entry core = saved(cpu, context);
  EXPECT_EQ(core.thread_info().gpregs().ip(), 0x1000u);
  EXPECT_EQ(core.thread_info().gpregs().ax(), static_cast<std::uint32_t>(-EINTR));
}

TEST(RegistersTest, AnImageCannotRaisePrivileges) {
  const XstateLayout cpu = avx_cpu();
  pb::core_entry core = saved(cpu, context_on(cpu, 0x3));
  core.mutable_thread_info()->mutable_gpregs()->set_cs(0x10);
  core.mutable_thread_info()->mutable_gpregs()->set_flags(~0ull);
  const auto registers = registers_for(cpu, core);
  ASSERT_TRUE(registers);
  EXPECT_EQ(registers->general.cs, 0x33u);
  EXPECT_EQ(registers->general.eflags & 0x3000, 0u);  // I/O privilege level
}

TEST(RegistersTest, DamagedImagesAreNamed) {
  const XstateLayout cpu = avx_cpu();
  const pb::core_entry good = saved(cpu, context_on(cpu, 0x207));
  const auto kind_of = [&](auto damage) {
    pb::core_entry core = good;
    damage(*core.mutable_thread_info());
    const auto registers = registers_for(cpu, core);
    EXPECT_FALSE(registers);
    return registers ? Error::Kind::kTaskDied : registers.error().kind();
  };
  EXPECT_EQ(kind_of([](auto& t) { t.mutable_fpregs()->clear_st_space(); }), Error::Kind::kCorruptImage);
  EXPECT_EQ(kind_of([](auto& t) { t.mutable_fpregs()->mutable_xsave()->add_ymmh_space(1); }),
            Error::Kind::kCorruptImage);
  EXPECT_EQ(kind_of([](auto& t) { t.mutable_fpregs()->set_mxcsr(0x10000); }), Error::Kind::kUnsupported);
  EXPECT_EQ(kind_of([](auto& t) { t.mutable_fpregs()->mutable_xsave()->mutable_cet()->set_cet(1); }),
            Error::Kind::kUnsupported);
}

// --- the machine's own threads ------------------------------------------------------------------

class Tracee {
 public:
  // The child fills every vector register that the CPU has with a pattern, then stops.
  explicit Tracee(unsigned char pattern) {
    pid_ = ::fork();
    if (pid_ == 0) {
      ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
      alignas(64) unsigned char bytes[64];
      std::memset(bytes, pattern, sizeof bytes);
      if (XstateLayout::of_this_cpu().has(kHi16Zmm)) fill_avx512(bytes);
      ::syscall(SYS_tgkill, ::getpid(), ::gettid(), SIGSTOP);
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(pid_, &status, 0);
  }
  ~Tracee() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  __attribute__((target("avx512f"))) static void fill_avx512(const unsigned char* from) {
    asm volatile("vmovdqu64 (%0), %%zmm5\n vmovdqu64 (%0), %%zmm30\n kmovw (%0), %%k3" : : "r"(from));
  }
  pid_t pid_;
};

TEST(RegistersTest, WhatTheKernelTellsOfOneThreadAnotherCanBeGiven) {
  const XstateLayout& cpu = XstateLayout::of_this_cpu();
  Tracee origin(0xa5), target(0);
  const auto context = parasite::capture(origin.pid());
  ASSERT_TRUE(context) << context.error().message();
  const pb::core_entry core = saved(cpu, *context);
  const auto registers = registers_of(core);
  ASSERT_TRUE(registers) << registers.error().message();
  EXPECT_EQ(registers->xstate.size(), context->xstate.size());
  const Result<> set = sys::ptrace::setregset(target.pid(), NT_X86_XSTATE, registers->xstate);
  ASSERT_TRUE(set) << set.error().message();
  ASSERT_TRUE(sys::ptrace::setregset(target.pid(), NT_PRSTATUS, std::as_bytes(std::span(&registers->general, 1))));

  auto after = parasite::capture(target.pid());
  ASSERT_TRUE(after);
  pb::core_entry copy = saved(cpu, *after);
  // Two differences are meant: the call that stopped the thread, and components that now count as in use.
  copy.mutable_thread_info()->mutable_gpregs()->set_orig_ax(core.thread_info().gpregs().orig_ax());
  auto& xsave = *copy.mutable_thread_info()->mutable_fpregs()->mutable_xsave();
  const std::uint64_t wanted = core.thread_info().fpregs().xsave().xstate_bv();
  EXPECT_EQ(xsave.xstate_bv() & wanted, wanted);
  xsave.set_xstate_bv(wanted);
  EXPECT_EQ(copy.SerializeAsString(), core.SerializeAsString());
  if (cpu.has(kHi16Zmm)) {
    EXPECT_EQ(core.thread_info().fpregs().xsave().hi16_zmm(14 * 8), 0xa5a5a5a5a5a5a5a5u);
  }
}

}  // namespace
}  // namespace dormouse::engine
