#include "shim/oci_hooks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shim/testing.h"

namespace dormouse::shim {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kState = R"({"id":"web","pid":7})";

struct Hooks {
  oci::Hook hook(const std::string& script, std::vector<std::string> args = {}) {
    const std::string name = "hook" + std::to_string(++count);
    return {.path = directory.write(name, "#!/bin/sh\n" + script + "\n", 0755), .args = std::move(args), .env = {}, .timeout = {}};
  }
  Result<> run(const std::vector<oci::Hook>& hooks) { return run_hooks("prestart", hooks, kState, directory.path()); }

  TemporaryDirectory directory;
  int count = 0;
};

TEST(OciHooks, GetTheStateTheBundleAndTheirArguments) {
  Hooks hooks;
  auto hook = hooks.hook(R"(cat > state; pwd > where; echo "$0 $1 $HOOK" > rest)", {"name", "one"});
  hook.env = {"HOOK=yes", "PATH=/usr/bin:/bin"};
  const auto ran = hooks.run({hook});
  ASSERT_TRUE(ran) << ran.error().message();
  EXPECT_EQ(hooks.directory.read("state"), kState);
  EXPECT_EQ(hooks.directory.read("where"), hooks.directory.path() + "\n");
  EXPECT_EQ(hooks.directory.read("rest"), hook.path + " one yes\n");
}

TEST(OciHooks, TheFirstFailureEndsTheRoundAndIsQuoted) {
  Hooks hooks;
  const auto bad = hooks.hook("echo starting; echo no network here >&2; exit 3");
  const auto ran = hooks.run({hooks.hook("touch first"), bad, hooks.hook("touch third")});
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().message(), "prestart hook " + bad.path + ": exited with status 3 (it said: no network here)");
  EXPECT_TRUE(hooks.directory.has("first"));
  EXPECT_FALSE(hooks.directory.has("third"));
}

TEST(OciHooks, ASignalOrAMissingProgramIsAFailure) {
  Hooks hooks;
  EXPECT_THAT(hooks.run({hooks.hook("kill -9 $$")}).error().message(), HasSubstr("killed by signal 9"));
  EXPECT_THAT(hooks.run({{.path = "/no/such/hook", .args = {}, .env = {}, .timeout = {}}}).error().message(),
              AllOf(HasSubstr("prestart hook /no/such/hook"), HasSubstr("ENOENT")));
}

TEST(OciHooks, ATimeoutEndsTheHook) {
  Hooks hooks;
  auto slow = hooks.hook("exec sleep 100");
  slow.timeout = std::chrono::seconds(1);
  EXPECT_THAT(hooks.run({slow}).error().message(), HasSubstr("did not end within 1 s"));
}

TEST(OciHooks, OneThatIgnoresItsInputDoesNotHang) {
  Hooks hooks;
  EXPECT_TRUE(run_hooks("x", std::vector{hooks.hook("exit 0")}, std::string(1 << 20, 'x'), hooks.directory.path()));
}

class Lines final : public Log {
 public:
  void write(LogLevel, std::string_view line) override { all.emplace_back(line); }
  std::vector<std::string> all;
};

TEST(OciHooks, AfterTheEndFailuresAreOnlyLogged) {
  Hooks hooks;
  Lines log;
  run_hooks_to_the_end("poststop", std::vector{hooks.hook("exit 1"), hooks.hook("touch second")}, kState,
                       hooks.directory.path(), log);
  EXPECT_TRUE(hooks.directory.has("second"));
  EXPECT_THAT(log.all, ElementsAre(HasSubstr("exited with status 1")));
}

}  // namespace
}  // namespace dormouse::shim
