#include "oci/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dormouse::oci {
namespace {

using ::testing::HasSubstr;

State example() {
  return {"web", 4711, 123456789, "2026-01-02T03:04:05Z", "/bundles/we \"b\"", "/bundles/web/rootfs",
          {{"", "/sys/fs/cgroup/unified/web"}, {"name=systemd", "/sys/fs/cgroup/systemd/web"}},
          {"/dev/null", "pipe:[4711]"}};
}

TEST(State, RoundTrip) {
  const auto state = parse_state(format_state(example()), "state.json");
  ASSERT_TRUE(state) << state.error().message();
  EXPECT_EQ(*state, example());
}

TEST(State, OwnAndForeignStatesAreTold) {
  EXPECT_TRUE(is_own_state(format_state(example())));
  EXPECT_FALSE(is_own_state(R"({"id": "web", "init_process_pid": 1})"));
  EXPECT_FALSE(is_own_state("nonsense"));
  EXPECT_FALSE(is_own_state("[]"));
}

TEST(State, LayoutsOfTheFutureAreRefused) {
  auto text = format_state(example());
  text.replace(text.find(":1,"), 3, ":2,");
  const auto state = parse_state(text, "state.json");
  ASSERT_FALSE(state);
  EXPECT_THAT(state.error().message(), HasSubstr("newer version"));
}

TEST(State, MissingFieldsAreNamed) {
  const auto state = parse_state(R"({"dormouse": 1, "id": "a", "pid": "7"})", "/run/x/state.json");
  ASSERT_FALSE(state);
  EXPECT_THAT(state.error().message(), HasSubstr("/run/x/state.json: pid: a whole number was expected"));
}

TEST(PublicState, HasTheMembersOfTheSpecification) {
  EXPECT_EQ(format_public_state({"1.0.2", "web", "running", 7, "/b", "", "", {}}),
            R"({"ociVersion":"1.0.2","id":"web","status":"running","pid":7,"bundle":"/b"})");
  EXPECT_EQ(format_public_state({"1.0.2", "web", "stopped", 0, "/b", "/b/r", "now", {{"k", "v"}}}),
            R"({"ociVersion":"1.0.2","id":"web","status":"stopped","pid":0,"bundle":"/b","rootfs":"/b/r","created":"now","annotations":{"k":"v"}})");
}

}  // namespace
}  // namespace dormouse::oci
