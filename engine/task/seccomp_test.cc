#include "engine/task/seccomp.h"

#include <gtest/gtest.h>
#include <linux/seccomp.h>

#include "images/schema/task.pb.h"

namespace dormouse::engine {
namespace {

SeccompState::Filter filter(std::uint32_t value) {
  return {{BPF_STMT(BPF_RET | BPF_K, value)}, 0};
}
SeccompState with(std::vector<SeccompState::Filter> filters) { return {SECCOMP_MODE_FILTER, std::move(filters)}; }

struct Cores {
  pb::thread_core_entry first, second;
  std::vector<pb::thread_core_entry*> pointers() { return {&first, &second}; }
};

TEST(SeccompTableTest, AChainBeginsWithTheFilterToBeInstalledFirst) {
  SeccompTable table;
  Cores cores;
  table.save(std::vector{with({filter(1), filter(2)}), SeccompState{}}, cores.pointers());
  ASSERT_EQ(table.entry().seccomp_filters_size(), 2);
  const pb::seccomp_filter& first = table.entry().seccomp_filters(static_cast<int>(cores.first.seccomp_filter()));
  EXPECT_EQ(static_cast<std::uint8_t>(first.filter()[4]), 1);
  ASSERT_TRUE(first.has_prev());
  const pb::seccomp_filter& second = table.entry().seccomp_filters(static_cast<int>(first.prev()));
  EXPECT_EQ(static_cast<std::uint8_t>(second.filter()[4]), 2);
  EXPECT_FALSE(second.has_prev());
  EXPECT_EQ(first.flags(), 0u);
  EXPECT_FALSE(cores.second.has_seccomp_mode());
}

TEST(SeccompTableTest, EqualChainsOfAllThreadsAreTakenForOne) {
  SeccompTable table;
  Cores cores;
  table.save(std::vector{with({filter(1)}), with({filter(1)})}, cores.pointers());
  EXPECT_EQ(table.entry().seccomp_filters(0).flags(), SECCOMP_FILTER_FLAG_TSYNC);
  EXPECT_EQ(cores.first.seccomp_mode(), pb::filter);
  EXPECT_FALSE(cores.second.has_seccomp_mode());
}

TEST(SeccompTableTest, ProcessesWithTheSameChainShareItInTheImage) {
  SeccompTable table;
  Cores one, other;
  table.save(std::vector{with({filter(1), filter(2)}), SeccompState{}}, one.pointers());
  table.save(std::vector{with({filter(3)}), with({filter(1), filter(2)})}, other.pointers());
  EXPECT_EQ(table.entry().seccomp_filters_size(), 3);
  EXPECT_EQ(one.first.seccomp_filter(), other.second.seccomp_filter());
  EXPECT_NE(other.first.seccomp_filter(), other.second.seccomp_filter());
}

TEST(SeccompRestoreTest, FiltersAreInstalledInTheirOrder) {
  SeccompTable table;
  Cores cores;
  table.save(std::vector{with({filter(1), filter(2)}), SeccompState{}}, cores.pointers());
  parasite::Program program;
  ASSERT_TRUE(append_seccomp(program, cores.first, &table.entry()));
  EXPECT_EQ(program.print(),
            "0: seccomp(1, 0, data+0x8) = 0x0  ; seccomp filter 0 (CAP_SYS_ADMIN)\n"
            "1: seccomp(1, 0, data+0x20) = 0x0  ; seccomp filter 1 (CAP_SYS_ADMIN)\n");
}

TEST(SeccompRestoreTest, WhereTheImageLeadsAstrayIsNamed) {
  pb::seccomp_entry table;
  table.add_seccomp_filters()->set_filter(std::string(8, '\0'));
  table.mutable_seccomp_filters(0)->set_prev(0);  // a circle
  pb::thread_core_entry core;
  core.set_seccomp_mode(pb::filter);
  core.set_seccomp_filter(0);
  parasite::Program program;
  EXPECT_EQ(append_seccomp(program, core, &table).error().kind(), Error::Kind::kCorruptImage);
  core.set_seccomp_filter(1);
  EXPECT_EQ(append_seccomp(program, core, &table).error().message(), "there is no seccomp filter 1");
  EXPECT_EQ(append_seccomp(program, core, nullptr).error().kind(), Error::Kind::kCorruptImage);
  core.set_seccomp_filter(0);
  table.mutable_seccomp_filters(0)->set_filter("odd");
  EXPECT_EQ(append_seccomp(program, core, &table).error().kind(), Error::Kind::kCorruptImage);
}

}  // namespace
}  // namespace dormouse::engine
