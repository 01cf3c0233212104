#include "engine/task/restartable.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace dormouse::engine {
namespace {

struct alignas(32) Registration {
  std::uint32_t cpu_start = 0, cpu = 0;
  std::uint64_t sequence = 0;
  std::uint32_t flags = 0;
};
struct alignas(32) Sequence {
  std::uint32_t version = 0, flags = 0;
  std::uint64_t start = 0x1000, length = 0x20, abort = 0x5000;
};

std::optional<std::uint64_t> handler_at(const Registration& registration, std::uint64_t instruction) {
  const abi::RseqConfiguration configuration{reinterpret_cast<std::uint64_t>(&registration), 32, 0, 0, 0};
  const auto address = abort_address(::getpid(), configuration, instruction);
  EXPECT_TRUE(address);
  return address ? *address : std::nullopt;
}

TEST(RestartableTest, OnlyInsideASequenceIsThereSomethingToAbort) {
  const Sequence sequence;
  Registration registration;
  EXPECT_EQ(handler_at(registration, 0x1000), std::nullopt);
  registration.sequence = reinterpret_cast<std::uint64_t>(&sequence);
  EXPECT_EQ(handler_at(registration, 0x0fff), std::nullopt);
  EXPECT_EQ(handler_at(registration, 0x1000), 0x5000u);
  EXPECT_EQ(handler_at(registration, 0x101f), 0x5000u);
  EXPECT_EQ(handler_at(registration, 0x1020), std::nullopt);
}

TEST(RestartableTest, WhatCannotBeReadIsLeftToTheKernel) {
  Registration registration;
  registration.sequence = 0x10;
  EXPECT_EQ(handler_at(registration, 0x1000), std::nullopt);
  const auto none = abort_address(::getpid(), abi::RseqConfiguration{}, 0x1000);
  ASSERT_TRUE(none);
  EXPECT_FALSE(none->has_value());
}

}  // namespace
}  // namespace dormouse::engine
