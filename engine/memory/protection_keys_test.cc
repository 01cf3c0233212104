#include "engine/memory/protection_keys.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

namespace dormouse::engine {
namespace {

// As if the kernel had answered `result` for the keys in `allocated`, and EINVAL for the others.
Result<> verdict(std::initializer_list<std::uint32_t> allocated) {
  parasite::Program program;
  const parasite::OpRef first = ask_for_keys(program, 0x3ff000);
  std::vector<std::byte> memory(program.size_bytes());
  program.place(memory, 0x10000);
  auto* ops = reinterpret_cast<blob::Op*>(memory.data() + sizeof(blob::ProgramHeader));
  for (std::uint32_t i = 0; i < program.op_count(); ++i) ops[i].result = -EINVAL;
  for (const std::uint32_t key : allocated) ops[first.index + key - 1].result = -ENOMEM;
  return refuse_allocated_keys(parasite::Placed(&program, memory.data(), 0x10000), first);
}

TEST(ProtectionKeys, EveryKeyButTheFirstIsAskedFor) {
  parasite::Program program;
  ask_for_keys(program, 0x3ff000);
  EXPECT_EQ(program.op_count(), 15u);
  EXPECT_NE(program.print().find("(0x3ff000, 0x1000, 0, 15)"), std::string::npos) << program.print();
}

TEST(ProtectionKeys, AllocatedOnesAreRefusedByNumber) {
  EXPECT_TRUE(verdict({}));
  const auto refused = verdict({1, 15});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(),
            "protection keys: it has allocated 1, 15, which cannot be given again yet (give them back with pkey_free() "
            "before the checkpoint)");
}

}  // namespace
}  // namespace dormouse::engine
