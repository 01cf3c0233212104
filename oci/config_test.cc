#include "oci/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace dormouse::oci {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr const char* kBundle = "/bundles/one";

Result<Config> parse(std::string_view text) { return parse_config(text, "config.json", kBundle); }

// A minimal configuration with `members` added at its top.
std::string with(const std::string& members) {
  return R"({"ociVersion": "1.0.2", "root": {"path": "rootfs"})" + (members.empty() ? "" : ", " + members) + "}";
}
std::string error_of(std::string_view text) {
  const auto config = parse(text);
  return config ? "no error" : config.error().message();
}

TEST(Config, ReadsWhatRuncSpecWrites) {
  std::ifstream file(DORMOUSE_TESTDATA "/runc-spec.json");
  std::stringstream text;
  text << file.rdbuf();
  const auto config = parse(text.str());
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->oci_version, "1.0.2-dev");
  EXPECT_EQ(config->rootfs, "/bundles/one/rootfs");
  EXPECT_TRUE(config->rootfs_readonly);
  EXPECT_TRUE(config->terminal);
  EXPECT_THAT(config->mounts, SizeIs(7));
  EXPECT_EQ(config->mounts[1],
            (Mount{"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}}));
  EXPECT_FALSE(config->mounts[6].is_bind());
  EXPECT_THAT(config->namespaces, ElementsAre(Namespace{NamespaceKind::kPid, ""}, Namespace{NamespaceKind::kNetwork, ""},
                                              Namespace{NamespaceKind::kIpc, ""}, Namespace{NamespaceKind::kUts, ""},
                                              Namespace{NamespaceKind::kMount, ""}));
  EXPECT_THAT(config->masked_paths, Contains("/proc/kcore"));
  EXPECT_THAT(config->readonly_paths, Contains("/proc/sys"));
  EXPECT_THAT(config->devices, SizeIs(6));
  EXPECT_THAT(config->resources.devices, ElementsAre(Field(&DeviceRule::allow, false)));
  EXPECT_EQ(config->cgroups_path, "");
}

TEST(Config, MinimalConfigurationHasDefaults) {
  const auto config = parse(with(""));
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_FALSE(config->terminal);
  EXPECT_FALSE(config->rootfs_readonly);
  EXPECT_THAT(config->namespaces, IsEmpty());
  EXPECT_EQ(config->find_namespace(NamespaceKind::kNetwork), nullptr);
}

TEST(Config, MissingFieldsAreNamed) {
  EXPECT_EQ(error_of(R"({"root": {"path": "r"}})"), "config.json: ociVersion: is missing (correct the bundle's config.json)");
  EXPECT_THAT(error_of(R"({"ociVersion": "1.0.2"})"), HasSubstr("root: is missing"));
  EXPECT_THAT(error_of(R"({"ociVersion": "1.0.2", "root": {}})"), HasSubstr("root.path: is missing"));
  EXPECT_THAT(error_of(with(R"("mounts": [{"type": "proc"}])")), HasSubstr("mounts[0].destination: is missing"));
  EXPECT_THAT(error_of(with(R"("linux": {"namespaces": [{}]})")), HasSubstr("linux.namespaces[0].type: is missing"));
  EXPECT_THAT(error_of(with(R"("linux": {"uidMappings": [{"containerID": 0, "hostID": 1}]})")),
              HasSubstr("linux.uidMappings[0].size: is missing"));
}

TEST(Config, WrongTypesAreNamed) {
  EXPECT_THAT(error_of("[]"), HasSubstr("an object was expected"));
  EXPECT_THAT(error_of(with(R"("mounts": {})")), HasSubstr("mounts: an array was expected, this is an object"));
  EXPECT_THAT(error_of(with(R"("process": {"terminal": "yes"})")), HasSubstr("process.terminal: a boolean was expected"));
  EXPECT_THAT(error_of(with(R"("linux": {"resources": {"memory": {"limit": "1G"}}})")),
              HasSubstr("linux.resources.memory.limit: a whole number was expected, this is a string"));
  EXPECT_THAT(error_of(with(R"("annotations": {"a": 1})")), HasSubstr("annotations.a: a string was expected"));
}

TEST(Config, RelativePathsCountFromTheBundle) {
  const auto config = parse(with(R"("mounts": [{"destination": "/data", "source": "vol/../data", "options": ["rbind", "ro"]},
                                              {"destination": "/x", "type": "bind", "source": "/src"}])"));
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->mounts[0].source, "/bundles/one/data");
  EXPECT_TRUE(config->mounts[0].is_bind());
  EXPECT_EQ(config->mounts[1].source, "/src");
}

TEST(Config, HostileDestinationsStayInside) {
  const auto config = parse(with(R"("mounts": [{"destination": "/../../etc/./passwd", "type": "tmpfs"},
                                              {"destination": "relative//path/", "type": "tmpfs"}])"));
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->mounts[0].destination, "/etc/passwd");
  EXPECT_EQ(config->mounts[1].destination, "/relative/path");
  EXPECT_THAT(error_of(with(R"("mounts": [{"destination": "/a/..", "type": "tmpfs"}])")), HasSubstr("container's root"));
  EXPECT_THAT(error_of(with(R"("mounts": [{"destination": "", "type": "tmpfs"}])")), HasSubstr("is empty"));
  EXPECT_THAT(error_of(with(R"("mounts": [{"destination": "/a", "type": "bind"}])")), HasSubstr("needs a source"));
  EXPECT_THAT(error_of(with(R"("mounts": [{"destination": "/a\u0000b", "type": "tmpfs"}])")), HasSubstr("NUL"));
}

TEST(Config, PathsInsideTheContainerMustBeAbsolute) {
  EXPECT_THAT(error_of(with(R"("linux": {"maskedPaths": ["/ok", "proc/kcore"]})")),
              HasSubstr("linux.maskedPaths[1]: must be absolute"));
  const auto config = parse(with(R"("linux": {"maskedPaths": ["/proc/../../kcore"]})"));
  ASSERT_TRUE(config);
  EXPECT_THAT(config->masked_paths, ElementsAre("/kcore"));
}

TEST(Config, NamespacesAreChecked) {
  const auto config = parse(with(R"("linux": {"namespaces": [{"type": "network", "path": "/run/netns/a"}, {"type": "time"}]})"));
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->find_namespace(NamespaceKind::kNetwork)->path, "/run/netns/a");
  EXPECT_THAT(error_of(with(R"("linux": {"namespaces": [{"type": "net"}]})")), HasSubstr("'net' is no kind of namespace"));
  EXPECT_THAT(error_of(with(R"("linux": {"namespaces": [{"type": "pid"}, {"type": "pid"}]})")),
              HasSubstr("linux.namespaces[1]: this kind of namespace is listed twice"));
  EXPECT_THAT(error_of(with(R"("linux": {"namespaces": [{"type": "pid", "path": "ns"}]})")), HasSubstr("must be absolute"));
}

TEST(Config, ListedDevicesReplaceDefaultsOfTheSamePath) {
  const auto config = parse(with(R"("linux": {"devices": [
      {"path": "/dev/null", "type": "c", "major": 1, "minor": 3},
      {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}, {"path": "/dev/p", "type": "p"}]})"));
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_THAT(config->devices, SizeIs(8));
  EXPECT_EQ(config->devices.back().type, 'p');
  EXPECT_THAT(error_of(with(R"("linux": {"devices": [{"path": "/dev/x", "type": "q"}]})")), HasSubstr("none of the letters"));
  EXPECT_THAT(error_of(with(R"("linux": {"devices": [{"path": "/dev/x", "type": "c", "major": 1}]})")),
              HasSubstr("minor: is missing"));
}

TEST(Config, ResourcesAreRead) {
  const auto config = parse(with(R"("linux": {"cgroupsPath": "/pods/a", "resources": {
      "memory": {"limit": 1048576, "swap": -1, "swappiness": -1},
      "cpu": {"shares": 512, "quota": -1, "period": 100000, "cpus": "0-1"},
      "pids": {"limit": 100}, "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
      "devices": [{"allow": true, "type": "c", "major": 10, "minor": -1, "access": "rw"}],
      "unified": {"memory.high": "1M"}}})"));
  ASSERT_TRUE(config) << config.error().message();
  const Resources& r = config->resources;
  EXPECT_EQ(config->cgroups_path, "/pods/a");
  EXPECT_EQ(r.memory_limit, 1048576);
  EXPECT_EQ(r.memory_swap, -1);
  EXPECT_EQ(r.memory_swappiness, std::nullopt);
  EXPECT_EQ(r.cpu_shares, 512u);
  EXPECT_EQ(r.cpuset_cpus, "0-1");
  EXPECT_EQ(r.pids_limit, 100);
  EXPECT_EQ(r.devices[0].major, 10);
  EXPECT_EQ(r.devices[0].minor, std::nullopt);
  EXPECT_EQ(r.unified.at("memory.high"), "1M");
}

TEST(Config, HostileResourcesAreRefused) {
  const auto resources = [](const std::string& text) { return error_of(with(R"("linux": {"resources": )" + text + "}")); };
  EXPECT_THAT(resources(R"({"unified": {"../cgroup.procs": "1"}})"), HasSubstr("not the name of a cgroup file"));
  EXPECT_THAT(resources(R"({"hugepageLimits": [{"pageSize": "../x", "limit": 1}]})"), HasSubstr("no page size"));
  EXPECT_THAT(resources(R"({"devices": [{"allow": true, "access": "rwx"}]})"), HasSubstr("letters rwm"));
  EXPECT_THAT(resources(R"({"devices": [{"access": "r"}]})"), HasSubstr("allow: is missing"));
  EXPECT_THAT(resources(R"({"memory": {"swappiness": 101}})"), HasSubstr("from 0 to 100"));
}

TEST(Config, HooksAreRead) {
  const auto config = parse(with(R"("hooks": {
      "prestart": [{"path": "/bin/a", "args": ["a", "b"], "env": ["K=v"], "timeout": 5}],
      "createRuntime": [{"path": "/bin/b"}], "poststop": [{"path": "/bin/c"}, {"path": "/bin/d"}]})"));
  ASSERT_TRUE(config) << config.error().message();
  ASSERT_THAT(config->hooks.prestart, SizeIs(1));
  EXPECT_THAT(config->hooks.prestart[0].args, ElementsAre("a", "b"));
  EXPECT_EQ(config->hooks.prestart[0].timeout, std::chrono::seconds(5));
  EXPECT_EQ(config->hooks.create_runtime[0].timeout, std::nullopt);
  EXPECT_THAT(config->hooks.poststop, SizeIs(2));
  EXPECT_THAT(error_of(with(R"("hooks": {"poststart": [{"path": "bin/a"}]})")),
              HasSubstr("hooks.poststart[0].path: must be absolute"));
  EXPECT_THAT(error_of(with(R"("hooks": {"prestart": [{"path": "/a", "timeout": 0}]})")), HasSubstr("more than 0"));
}

TEST(CleanPath, KeepsPathsUnderTheRoot) {
  EXPECT_EQ(clean_path(""), "/");
  EXPECT_EQ(clean_path("/"), "/");
  EXPECT_EQ(clean_path("//a///b/"), "/a/b");
  EXPECT_EQ(clean_path("a/./b/../c"), "/a/c");
  EXPECT_EQ(clean_path("/../../.."), "/");
  EXPECT_EQ(clean_path("/..a/b.."), "/..a/b..");
}

TEST(ContainerId, OnlyHarmlessNamesAreAccepted) {
  for (const char* id : {"a", "web_1.2-3+x", "0", "..."}) EXPECT_TRUE(check_container_id(id)) << id;
  EXPECT_TRUE(check_container_id(std::string(255, 'x')));
  for (const char* id : {"", ".", "..", "a/b", "../x", "a b", "a\n", "ü"}) EXPECT_FALSE(check_container_id(id)) << id;
  EXPECT_FALSE(check_container_id(std::string(256, 'x')));
  EXPECT_THAT(check_container_id("a/b").error().message(), HasSubstr("container id 'a/b': holds the character \"/\""));
}

}  // namespace
}  // namespace dormouse::oci
