#include "shim/oci_externals.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shim/testing.h"

namespace dormouse::engine {
bool operator==(const ExternalMount& a, const ExternalMount& b) { return a.key == b.key && a.value == b.value; }
void PrintTo(const ExternalMount& mount, std::ostream* out) { *out << mount.key << "=" << mount.value; }
}  // namespace dormouse::engine

namespace dormouse::shim {
namespace {

using engine::ExternalMount;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

oci::Config config_from(const std::string& linux_part, const std::string& mounts = "[]") {
  auto config = oci::parse_config(R"({"ociVersion": "1", "root": {"path": "/r"}, "mounts": )" + mounts + R"(, "linux": )" + linux_part + "}",
                                  "config.json", "/b");
  EXPECT_TRUE(config) << config.error().message();
  return config.value_or(oci::Config{});
}

// What `runc spec` writes, read as a bundle's.
oci::Config runc_spec() {
  std::ifstream file(DORMOUSE_SOURCE "/oci/testdata/runc-spec.json");
  std::stringstream text;
  text << file.rdbuf();
  auto config = oci::parse_config(text.str(), "config.json", "/b");
  EXPECT_TRUE(config) << config.error().message();
  return config.value_or(oci::Config{});
}

const std::vector<CgroupMount> kHybrid = {{{"name=systemd"}, "/sys/fs/cgroup/systemd", "/", "/"},
                                          {{"cpu", "cpuacct"}, "/sys/fs/cgroup/cpu,cpuacct", "/", "/"},
                                          {{""}, "/sys/fs/cgroup/unified", "/", "/"}};
const std::vector<CgroupMount> kUnified = {{{""}, "/sys/fs/cgroup", "/", "/"}};

NodeView view(std::span<const CgroupMount> mounts) {
  return {mounts, [](const std::string& path) { return path.starts_with("/var/run/") ? path.substr(4) : path; }};
}
bool all_files(const std::string&) { return true; }

TEST(Externals, OfADefaultContainerAreThoseThatRuncNames) {
  const auto is_file = [](const std::string& path) { return path == "/proc/keys" || path == "/proc/timer_list"; };
  EXPECT_THAT(dumped_mounts(runc_spec(), view(kHybrid), is_file),
              ElementsAre(ExternalMount{"/sys/fs/cgroup/systemd", "/sys/fs/cgroup/systemd"},
                          ExternalMount{"/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"},
                          ExternalMount{"/proc/keys", "/dev/null"}, ExternalMount{"/proc/timer_list", "/dev/null"},
                          ExternalMount{"/dev/null", "/dev/null"}, ExternalMount{"/dev/random", "/dev/random"},
                          ExternalMount{"/dev/full", "/dev/full"}, ExternalMount{"/dev/tty", "/dev/tty"},
                          ExternalMount{"/dev/zero", "/dev/zero"}, ExternalMount{"/dev/urandom", "/dev/urandom"}));
}

TEST(Externals, CgroupMountsOfVersion2OrOfANamespaceAreTheContainersOwn) {
  const auto cgroup = Contains(testing::Field(&ExternalMount::key, HasSubstr("cgroup")));
  EXPECT_THAT(dumped_mounts(runc_spec(), view(kUnified), all_files), Not(cgroup));
  auto with_namespace = runc_spec();
  with_namespace.namespaces.push_back({oci::NamespaceKind::kCgroup, ""});
  EXPECT_THAT(dumped_mounts(with_namespace, view(kHybrid), all_files), Not(cgroup));
  EXPECT_THAT(restored_mounts(with_namespace, view(kHybrid), {}), Not(cgroup));
}

TEST(Externals, BindMountsAreNamedByWhereTheyReallyAre) {
  const auto config = config_from("{}", R"([{"destination": "/var/run/app", "source": "/srv/app", "options": ["rbind"]},
                                            {"destination": "/tmp", "type": "tmpfs"}])");
  EXPECT_THAT(dumped_mounts(config, view(kUnified), all_files), Contains(ExternalMount{"/run/app", "/run/app"}));
  EXPECT_THAT(restored_mounts(config, view(kUnified), {}), Contains(ExternalMount{"/run/app", "/srv/app"}));
  EXPECT_THAT(dumped_mounts(config, view(kUnified), all_files),
              Not(Contains(testing::Field(&ExternalMount::key, "/tmp"))));
}

TEST(Externals, CgroupsAreRestoredFromTheContainersOwn) {
  const CgroupPaths paths = {{"name=systemd", "/sys/fs/cgroup/systemd/web"}, {"cpu", "/sys/fs/cgroup/cpu,cpuacct/web"}};
  const auto mounts = restored_mounts(runc_spec(), view(kHybrid), paths);
  EXPECT_THAT(mounts, Contains(ExternalMount{"/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/web"}));
  EXPECT_THAT(mounts, Contains(ExternalMount{"/sys/fs/cgroup/systemd", "/sys/fs/cgroup/systemd/web"}));
}

TEST(Externals, MaskedFilesAreRestoredUnderTheNamesOfBothRuntimes) {
  const auto mounts = restored_mounts(runc_spec(), view(kUnified), {});
  EXPECT_THAT(mounts, Contains(ExternalMount{"/dev/null", "/dev/null"}));
  EXPECT_THAT(mounts, Contains(ExternalMount{"/proc/keys", "/dev/null"}));
}

TEST(Externals, NetworkAndPidNamespacesByPathGetNames) {
  const auto config = config_from(R"({"namespaces": [{"type": "network", "path": "/n"}, {"type": "pid", "path": "/p"},
                                                     {"type": "ipc", "path": "/i"}, {"type": "uts"}]})");
  const auto names = dumped_namespaces(config, [](const std::string& path) -> Result<std::uint64_t> { return path == "/n" ? 40 : 41; });
  ASSERT_TRUE(names);
  EXPECT_THAT(*names, ElementsAre("net[40]:extRootNetNS", "pid[41]:extRootPidNS"));
  const auto gone = dumped_namespaces(config, [](const std::string&) -> Result<std::uint64_t> { return fail(Error::kernel("stat", ENOENT)); });
  ASSERT_FALSE(gone);
  EXPECT_THAT(gone.error().message(), HasSubstr("namespace /n"));
}

TEST(Externals, NamespacesAreRestoredByDescriptorOrJoined) {
  const auto config = config_from(R"({"namespaces": [{"type": "network", "path": "/n"}, {"type": "ipc", "path": "/i"},
                                                     {"type": "user", "path": "/u"}, {"type": "mount"}]})");
  const auto open_null = [](const std::string&) -> Result<Fd> { return Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); };
  const auto result = restored_namespaces(config, open_null);
  ASSERT_TRUE(result);
  ASSERT_THAT(result->inherited, SizeIs(1));
  EXPECT_EQ(result->inherited[0].key, "extRootNetNS");
  EXPECT_EQ(result->inherited[0].fd, result->descriptors.at(0).get());
  ASSERT_THAT(result->joined, SizeIs(2));
  EXPECT_EQ(result->joined[0].kind, "ipc");
  EXPECT_EQ(result->joined[1].path, "/u");
}

TEST(Externals, AGivenCgroupNamespaceIsRefused) {
  const auto config = config_from(R"({"namespaces": [{"type": "cgroup", "path": "/c"}]})");
  const auto result = restored_namespaces(config, [](const std::string&) -> Result<Fd> { return Fd(); });
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message(), HasSubstr("namespace /c"));
}

TEST(Descriptors, PipesAreReplacedByOurs) {
  const auto inherited = inherited_pipes(R"(["/dev/null","pipe:[4711]","pipe:[4712]"])", "d");
  ASSERT_TRUE(inherited);
  ASSERT_THAT(*inherited, SizeIs(2));
  EXPECT_EQ((*inherited)[0].key, "pipe:[4711]");
  EXPECT_EQ((*inherited)[0].fd, 1);
  EXPECT_EQ((*inherited)[1].fd, 2);
  EXPECT_THAT(inherited_pipes("null", "d").value(), IsEmpty());
  EXPECT_THAT(inherited_pipes("{}", "d").error().message(), HasSubstr("an array was expected"));
  EXPECT_FALSE(inherited_pipes(R"(["a","b","c","d"])", "d"));
  EXPECT_FALSE(inherited_pipes(R"([1])", "d"));
}

}  // namespace
}  // namespace dormouse::shim
