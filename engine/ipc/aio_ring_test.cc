#include "engine/ipc/aio_ring.h"

#include <gtest/gtest.h>

#include "engine/memory/vma_kind.h"

namespace dormouse::engine {
namespace {

pb::vma_entry ring_mapping(std::uint64_t start, std::uint64_t bytes) {
  pb::vma_entry vma;
  vma.set_start(start);
  vma.set_end(start + bytes);
  vma.set_status(vma_status::kAioRing);
  return vma;
}

TEST(AioRing, AsksForAsManyRequestsAsGiveARingOfThatLength) {
  const auto ring = describe_aio_ring(ring_mapping(0x10000, 4096));
  EXPECT_EQ(ring.id(), 0x10000u);
  EXPECT_EQ(ring.ring_len(), 4096u);
  EXPECT_EQ(ring.nr_req(), 62u);  // (62 * 2 + 2) * 32 + 32 bytes
}

TEST(AioRing, AHeadBeforeTheTailIsOneRoundMore) {
  AioRingHeader header{};
  header.events = 127;
  EXPECT_EQ(requests_to_repeat(header), 0u);
  header.tail = 20;
  header.head = 5;
  EXPECT_EQ(requests_to_repeat(header), 20u);
  header.tail = 3;
  EXPECT_EQ(requests_to_repeat(header), 130u);
  header.head = 3;
  EXPECT_EQ(requests_to_repeat(header), 3u);
}

TEST(AioRing, MustBeAMappingOfItsOwn) {
  pb::mm_entry mm;
  *mm.add_vmas() = ring_mapping(0x10000, 8192);
  auto& ring = *mm.add_aios();
  ring = describe_aio_ring(mm.vmas(0));
  EXPECT_TRUE(check_aio_rings(mm));
  ring.set_ring_len(4096);
  EXPECT_FALSE(check_aio_rings(mm));
  ring.set_ring_len(8192);
  ring.set_id(0x11000);
  EXPECT_FALSE(check_aio_rings(mm));
}

}  // namespace
}  // namespace dormouse::engine
