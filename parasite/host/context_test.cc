#include "parasite/host/context.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cerrno>

namespace dormouse::parasite {
namespace {

constexpr auto kInterrupted = static_cast<unsigned long long>(-EINTR), kRestarted = static_cast<unsigned long long>(-514);

user_regs_struct after(long number, unsigned long long result) {
  user_regs_struct regs{};
  regs.cs = kCode64;
  regs.orig_rax = static_cast<unsigned long long>(number);
  regs.rax = result;
  return regs;
}

unsigned long long result_of(user_regs_struct regs) {
  (void)continue_endless_wait(regs);
  return regs.rax;
}

TEST(Context, AWaitWithoutEndGoesOn) {
  user_regs_struct epoll = after(SYS_epoll_wait, kInterrupted);
  epoll.r10 = static_cast<std::uint32_t>(-1);  // as a 32-bit register has it
  EXPECT_EQ(result_of(epoll), kRestarted);
  EXPECT_EQ(result_of(after(SYS_rt_sigtimedwait, kInterrupted)), kRestarted);
  EXPECT_EQ(result_of(after(SYS_semop, kInterrupted)), kRestarted);
}

TEST(Context, AWaitWithATimeoutEndsAsTheKernelSays) {
  user_regs_struct epoll = after(SYS_epoll_wait, kInterrupted);
  epoll.r10 = 1000;
  EXPECT_EQ(result_of(epoll), kInterrupted);
  user_regs_struct signals = after(SYS_rt_sigtimedwait, kInterrupted);
  signals.rdx = 0x7f00'0000'0000;
  EXPECT_EQ(result_of(signals), kInterrupted);
}

TEST(Context, OtherCallsAndResultsStay) {
  EXPECT_EQ(result_of(after(SYS_read, kInterrupted)), kInterrupted);
  EXPECT_EQ(result_of(after(-1, kInterrupted)), kInterrupted);
  user_regs_struct ready = after(SYS_epoll_wait, 1);
  ready.r10 = static_cast<unsigned long long>(-1);
  EXPECT_EQ(result_of(ready), 1u);
}

TEST(Context, CallsOf32BitCodeHaveNumbersAndArgumentsOfTheirOwn) {
  user_regs_struct epoll = after(256, static_cast<std::uint32_t>(-EINTR));
  epoll.cs = kCode32;
  epoll.rsi = 0xffff'ffff;
  EXPECT_EQ(result_of(epoll), kRestarted);
  epoll.orig_rax = SYS_epoll_wait;
  EXPECT_EQ(result_of(epoll), static_cast<std::uint32_t>(-EINTR));
}

TEST(ContinuationTest, ACallThatIsIssuedAgainCanBeMadeOneThatGoesOn) {
  user_regs_struct regs{};
  regs.cs = kCode64;
  regs.orig_rax = SYS_pause, regs.rip = 0x1002;
  regs.rax = static_cast<std::uint64_t>(std::int64_t{-514});
  ASSERT_EQ(continuation(regs), -514);
  user_regs_struct again = resumable(regs);
  EXPECT_EQ(again.rip, 0x1000u);
  ASSERT_TRUE(continue_call(again, SYS_pause, -514));
  EXPECT_EQ(again.rip, regs.rip);
  EXPECT_EQ(again.rax, regs.rax);
  EXPECT_EQ(again.orig_rax, regs.orig_rax);
}

TEST(ContinuationTest, WhatWasLeftOfATimeoutIsLostAndTheCallBeginsAnew) {
  user_regs_struct regs{};
  regs.cs = kCode64;
  regs.orig_rax = SYS_nanosleep, regs.rax = static_cast<std::uint64_t>(std::int64_t{-516});
  EXPECT_EQ(continuation(regs), -514);
  regs.orig_rax = SYS_restart_syscall;
  EXPECT_EQ(continuation(regs), std::nullopt);
}

TEST(ContinuationTest, NoCallNoContinuation) {
  user_regs_struct regs{};
  regs.cs = kCode64;
  regs.orig_rax = ~0ull, regs.rax = static_cast<std::uint64_t>(std::int64_t{-514});
  EXPECT_EQ(continuation(regs), std::nullopt);
  regs.orig_rax = SYS_read, regs.rax = 5;
  EXPECT_EQ(continuation(regs), std::nullopt);
  regs.rax = SYS_read;
  EXPECT_FALSE(continue_call(regs, SYS_pause, -514));
  EXPECT_FALSE(continue_call(regs, SYS_read, -4));
}

}  // namespace
}  // namespace dormouse::parasite
