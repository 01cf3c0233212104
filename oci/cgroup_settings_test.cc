#include "oci/cgroup_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace dormouse::oci {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::string> lines(const std::vector<CgroupWrite>& writes) {
  std::vector<std::string> result;
  for (const auto& write : writes) result.push_back(write.file + " <- " + write.value);
  return result;
}
std::vector<std::string> without_devices(std::vector<CgroupWrite> writes) {
  std::erase_if(writes, [](const CgroupWrite& write) { return write.controller == "devices"; });
  return lines(writes);
}

TEST(CgroupSettings, NothingAskedForSetsNoLimit) {
  EXPECT_THAT(without_devices(cgroup_writes_v1({})), IsEmpty());
  EXPECT_THAT(cgroup_writes_v2({}), IsEmpty());
}

TEST(CgroupSettings, DevicesAreDeniedBeforeRulesAndDefaultsAllowSome) {
  Resources resources;
  resources.devices = {{false, 'a', {}, {}, "rwm"}, {true, 'c', 10, 229, "rw"}, {true, 'b', 8, {}, "r"}};
  auto writes = lines(cgroup_writes_v1(resources));
  writes.resize(7);
  EXPECT_THAT(writes, ElementsAre("devices.deny <- a", "devices.deny <- a", "devices.allow <- c 10:229 rw",
                                  "devices.allow <- b 8:* r", "devices.allow <- c *:* m", "devices.allow <- b *:* m",
                                  "devices.allow <- c 1:3 rwm"));
}

TEST(CgroupSettings, LimitsOfVersion1) {
  Resources r;
  r.memory_limit = 64 << 20;
  r.memory_swap = 128 << 20;
  r.cpu_shares = 512;
  r.cpu_quota = 50000;
  r.cpu_period = 100000;
  r.cpuset_cpus = "0";
  r.pids_limit = 20;
  r.hugepage_limits = {{"2MB", 0}};
  EXPECT_THAT(without_devices(cgroup_writes_v1(r)),
              ElementsAre("memory.limit_in_bytes <- 67108864", "memory.memsw.limit_in_bytes <- 134217728",
                          "cpu.shares <- 512", "cpu.cfs_period_us <- 100000", "cpu.cfs_quota_us <- 50000",
                          "cpuset.cpus <- 0", "pids.max <- 20", "hugetlb.2MB.limit_in_bytes <- 0"));
}

TEST(CgroupSettings, LimitsOfVersion2) {
  Resources r;
  r.memory_limit = 64 << 20;
  r.memory_swap = 128 << 20;
  r.memory_reservation = 1 << 20;
  r.cpu_shares = 1024;
  r.cpu_quota = 50000;
  r.pids_limit = -1;
  r.unified = {{"memory.high", "1M"}};
  EXPECT_THAT(lines(cgroup_writes_v2(r)),
              ElementsAre("memory.max <- 67108864", "memory.swap.max <- 67108864", "memory.low <- 1048576",
                          "cpu.weight <- 39", "cpu.max <- 50000 100000", "pids.max <- max", "memory.high <- 1M"));
}

TEST(CgroupSettings, UnlimitedIsWrittenAsEachVersionWantsIt) {
  Resources r;
  r.memory_limit = -1;
  r.cpu_quota = -1;
  EXPECT_THAT(without_devices(cgroup_writes_v1(r)),
              ElementsAre("memory.limit_in_bytes <- -1", "memory.memsw.limit_in_bytes <- -1", "cpu.cfs_quota_us <- -1"));
  EXPECT_THAT(lines(cgroup_writes_v2(r)), ElementsAre("memory.max <- max", "cpu.max <- max 100000"));
}

TEST(CgroupSettings, SharesMapToTheWholeRangeOfWeights) {
  const auto weight = [](std::uint64_t shares) {
    Resources r;
    r.cpu_shares = shares;
    return cgroup_writes_v2(r).at(0).value;
  };
  EXPECT_EQ(weight(1), "1");
  EXPECT_EQ(weight(2), "1");
  EXPECT_EQ(weight(262144), "10000");
  EXPECT_EQ(weight(1'000'000'000), "10000");
}

TEST(CgroupSettings, APidsLimitOfZeroLeavesRoomForOneTask) {
  Resources r;
  r.pids_limit = 0;
  EXPECT_THAT(without_devices(cgroup_writes_v1(r)), ElementsAre("pids.max <- 1"));
}

TEST(ContainerCgroup, AbsolutePathsCountFromTheRoot) {
  EXPECT_EQ(container_cgroup("/pods/a", "id", "/own"), "/pods/a");
  EXPECT_EQ(container_cgroup("/../../a", "id", "/own"), "/a");
}

TEST(ContainerCgroup, RelativePathsStayBelowTheCallersCgroup) {
  EXPECT_EQ(container_cgroup("pods/a", "id", "/own"), "/own/pods/a");
  EXPECT_EQ(container_cgroup("../../a", "id", "/own"), "/own/a");
  EXPECT_EQ(container_cgroup("a", "id", "/"), "/a");
}

TEST(ContainerCgroup, TheIdIsTheDefault) { EXPECT_EQ(container_cgroup("", "web", "/own"), "/own/web"); }

TEST(ContainerCgroup, SystemdNotationNamesAScopeInItsSlices) {
  EXPECT_EQ(container_cgroup("machine.slice:libpod:abc", "id", "/own"), "/machine.slice/libpod-abc.scope");
  EXPECT_EQ(container_cgroup("kubepods-besteffort-pod1.slice:cri-containerd:abc", "id", "/own"),
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-containerd-abc.scope");
  EXPECT_EQ(container_cgroup("-.slice::abc", "id", "/own"), "/abc.scope");
  // Not that notation: a plain name.
  EXPECT_EQ(container_cgroup("a:b:c", "id", "/"), "/a:b:c");
}

}  // namespace
}  // namespace dormouse::oci
