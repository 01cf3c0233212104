#include "parasite/host/frame32.h"

#include <gtest/gtest.h>

#include <cstring>

namespace dormouse::parasite {
namespace {

struct X87 {
  alignas(16) std::byte fxsave[512];
  std::uint32_t environment[7];
};

// Loads some numbers into the x87 unit, and has it saved both ways.
template <class Load>
X87 saved_after(Load load) {
  X87 saved;
  asm volatile("fninit");
  load();
  asm volatile("fxsave %0\n\t fnstenv %1\n\t fninit" : "=m"(saved.fxsave), "=m"(saved.environment));
  return saved;
}

void expect_same_tags(const X87& saved) {
  std::uint16_t status = 0;
  std::memcpy(&status, saved.fxsave + 2, sizeof status);
  const auto tags = std::to_integer<std::uint8_t>(saved.fxsave[4]);
  EXPECT_EQ(full_tag_word(tags, status, std::span(saved.fxsave).subspan(32, 128)), saved.environment[2] & 0xffff);
}

TEST(Frame32Test, TagsAreThoseThatTheProcessorSaysItself) {
  expect_same_tags(saved_after([] {}));
  expect_same_tags(saved_after([] { asm volatile("fldpi\n\t fldz\n\t fld1"); }));
  expect_same_tags(saved_after([] {
    const double tiny = 0x1p-1070;
    asm volatile("fld1\n\t fldz\n\t fdivrp\n\t fldl %0\n\t fstp %%st(0)\n\t fldz\n\t fld1\n\t fdivp" : : "m"(tiny));
  }));
  expect_same_tags(saved_after([] { asm volatile("fld1\n\t fld1\n\t ffree %st(1)"); }));
}

Context some_context() {
  Context context;
  context.xstate.resize(4096);
  context.regs.cs = 0x23, context.regs.ss = 0x2b;
  context.regs.rip = 0x8049000, context.regs.rsp = 0xffffd000;
  context.regs.orig_rax = static_cast<std::uint64_t>(-1);
  const std::uint64_t features = 3;
  std::memcpy(context.xstate.data() + 464, &features, sizeof features);
  return context;
}

TEST(Frame32Test, ItIsBelowTheStackAndItsExtendedStateIsAligned) {
  const Context context = some_context();
  for (std::uint64_t stack = 0xffffd000; stack < 0xffffd040; ++stack) {
    const SignalFrame frame = build_frame32(context, stack, 0xf7fc9560, 12);
    EXPECT_LE(frame.address + frame.bytes.size(), stack);
    EXPECT_EQ((frame.address + 12 + 4) % 16, 0u);
    std::uint32_t restorer = 0, state = 0;
    std::memcpy(&restorer, frame.bytes.data() + 12, sizeof restorer);
    std::memcpy(&state, frame.bytes.data() + 12 + 164 + 76, sizeof state);
    EXPECT_EQ(restorer, 0xf7fc9560u);
    EXPECT_EQ((state + 112) % 64, 0u);
    EXPECT_GE(state, frame.address + 12 + 268);
  }
}

}  // namespace
}  // namespace dormouse::parasite
