#include "parasite/host/gadgets.h"

#include <gtest/gtest.h>

#include <string_view>

namespace dormouse::parasite {
namespace {

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(Gadgets, FindsASyscallThatRunsIntoRet) {
  // syscall; xor edx,edx; xor r11d,r11d; ret
  constexpr std::string_view code("\x90\x0f\x05\x31\xd2\x45\x31\xdb\xc3", 9);
  EXPECT_EQ(find_returning_syscall(bytes(code)), 1u);
}

TEST(Gadgets, AStackChangeBeforeRetIsNotAccepted) {
  constexpr std::string_view leave("\x0f\x05\xc9\xc3", 4);
  constexpr std::string_view pop("\x0f\x05\x5b\xc3", 4);
  constexpr std::string_view clears_result("\x0f\x05\x31\xc0\xc3", 5);
  EXPECT_EQ(find_returning_syscall(bytes(leave)), std::nullopt);
  EXPECT_EQ(find_returning_syscall(bytes(pop)), std::nullopt);
  EXPECT_EQ(find_returning_syscall(bytes(clears_result)), std::nullopt);
  EXPECT_EQ(find_syscall(bytes(pop)), 0u);
}

TEST(Gadgets, FindsBothFormsOfTheRestorer) {
  constexpr std::string_view glibc("\x90\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05", 10);
  constexpr std::string_view shorter("\xb8\x0f\x00\x00\x00\x0f\x05", 7);
  EXPECT_EQ(find_restorer(bytes(glibc)), 1u);
  EXPECT_EQ(find_restorer(bytes(shorter)), 0u);
  EXPECT_EQ(find_restorer(bytes("nothing here")), std::nullopt);
}

TEST(Gadgets, FindsACallOf32BitCodeAndWhatItPops) {
  // sysenter; int $0x80; pop ebp; pop edx; pop ecx; ret: the kernel's vdso
  constexpr std::string_view vdso("\x0f\x34\xcd\x80\x5d\x5a\x59\xc3", 8);
  EXPECT_EQ(find_returning_int80(bytes(vdso)), (ReturningCall{2, 12}));
  constexpr std::string_view plain("\xcd\x80\xc3", 3);
  EXPECT_EQ(find_returning_int80(bytes(plain)), (ReturningCall{0, 0}));
}

TEST(Gadgets, A32BitCallWhoseResultOrStackChangesIsNotAccepted) {
  constexpr std::string_view result("\xcd\x80\x58\xc3", 4), stack("\xcd\x80\x5c\xc3", 4), cut("\xcd\x80\x5d", 3);
  EXPECT_EQ(find_returning_int80(bytes(result)), std::nullopt);
  EXPECT_EQ(find_returning_int80(bytes(stack)), std::nullopt);
  EXPECT_EQ(find_returning_int80(bytes(cut)), std::nullopt);
  EXPECT_EQ(find_int80(bytes(cut)), 0u);
}

TEST(Gadgets, FindsThe32BitRestorer) {
  EXPECT_EQ(find_restorer32(bytes(std::string_view("\x90\xb8\xad\x00\x00\x00\xcd\x80", 8))), 1u);
  EXPECT_EQ(find_restorer32(bytes(std::string_view("\xb8\x0f\x00\x00\x00\x0f\x05", 7))), std::nullopt);
}

}  // namespace
}  // namespace dormouse::parasite
