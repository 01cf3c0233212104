#include "oci/runc_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace dormouse::oci {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::SizeIs;

std::string example() {
  std::ifstream file(DORMOUSE_TESTDATA "/runc-state.json");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(RuncState, ReadsWhatRuncWrites) {
  const auto state = parse_runc_state(example(), "state.json");
  ASSERT_TRUE(state) << state.error().message();
  EXPECT_EQ(state->id, "web");
  EXPECT_EQ(state->init_pid, 20149);
  EXPECT_EQ(state->init_start_ticks, 117718u);
  EXPECT_EQ(state->created, "2026-11-21T21:26:30.637246082Z");
  EXPECT_EQ(state->bundle, "/bundles/web");
  EXPECT_THAT(state->cgroup_paths, Contains(Pair("freezer", "/sys/fs/cgroup/freezer/web")));
  EXPECT_THAT(state->external_descriptors, ElementsAre("/dev/null", "pipe:[4711]", "pipe:[4712]"));
  const Config& config = state->config;
  EXPECT_EQ(config.rootfs, "/bundles/web/rootfs");
  EXPECT_THAT(config.devices, SizeIs(6));
  EXPECT_EQ(config.devices[0].path, "/dev/null");
  EXPECT_EQ(config.devices[0].type, 'c');
  EXPECT_EQ(config.devices[1].minor, 8);
  EXPECT_EQ(config.find_namespace(NamespaceKind::kNetwork)->path, "/run/netns/web");
  EXPECT_EQ(config.find_namespace(NamespaceKind::kPid)->path, "");
  EXPECT_THAT(config.masked_paths, Contains("/proc/keys"));
  EXPECT_EQ(config.annotations.at("org.criu.config"), "/etc/criu/web.conf");
  const auto& bind = config.mounts.back();
  EXPECT_TRUE(bind.is_bind());
  EXPECT_EQ(bind.destination, "/data");
  EXPECT_EQ(bind.source, "/srv/data");
}

TEST(RuncState, OtherFilesAreRefused) {
  const auto not_json = parse_runc_state("octest1\n", "/run/runc/x/state.json");
  ASSERT_FALSE(not_json);
  EXPECT_THAT(not_json.error().message(), HasSubstr("/run/runc/x/state.json: not JSON"));
  const auto other = parse_runc_state(R"({"id": "x", "pid": 7})", "state.json");
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error().message(), HasSubstr("init_process_pid: is missing (is this the state of a container of runc"));
}

TEST(RuncState, WrongValuesAreNamed) {
  const auto error = [](const std::string& text) { return parse_runc_state(text, "s").error().message(); };
  EXPECT_THAT(error(replaced(example(), "\"init_process_pid\": 20149", "\"init_process_pid\": -1")),
              HasSubstr("init_process_pid: a number below zero"));
  EXPECT_THAT(error(replaced(example(), "\"NEWIPC\"", "\"NEWSTUFF\"")),
              HasSubstr("config.namespaces[2].type: unknown namespace 'NEWSTUFF'"));
  EXPECT_THAT(error(replaced(example(), "\"/bundles/web/rootfs\"", "\"rootfs\"")),
              HasSubstr("config.rootfs: must be absolute"));
}

}  // namespace
}  // namespace dormouse::oci
