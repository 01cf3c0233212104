#include "shim/action_scripts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "shim/testing.h"

namespace dormouse::shim {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ActionScriptsTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(log_.open(dir_.fd(), "log")); }
  std::string script(const std::string& name, const std::string& text) {
    return dir_.write(name, text, 0700);
  }

  TemporaryDirectory dir_;
  LogFile log_;
};

TEST_F(ActionScriptsTest, TellsStageImagesAndRootAndLogsTheOutput) {
  const std::string path = script("s",
                                  "#!/bin/sh\necho $CRTOOLS_SCRIPT_ACTION $CRTOOLS_INIT_PID\n"
                                  "ls $CRTOOLS_IMAGE_DIR/ >&2\n");
  ActionScripts scripts({path}, dir_.fd(), 0, log_);
  ASSERT_TRUE(scripts.run({.stage = "pre-restore"}));
  ASSERT_TRUE(scripts.run({.stage = "setup-namespaces", .root_pid = 77}));
  ASSERT_TRUE(scripts.run({.stage = "post-setup-namespaces"}));
  log_.flush();
  EXPECT_EQ(dir_.read("log"),
            "pre-restore\nlog\ns\nsetup-namespaces 77\nlog\ns\npost-setup-namespaces 77\nlog\ns\n");
}

TEST_F(ActionScriptsTest, TheFirstManualsVariableIsSetForNetworkStages) {
  const std::string path = script("s", "#!/bin/sh\necho [$CRTOOL_SCRIPT_ACTION]\n");
  ActionScripts scripts({path}, dir_.fd(), 1, log_);
  ASSERT_TRUE(scripts.run({.stage = "network-lock"}));
  ASSERT_TRUE(scripts.run({.stage = "post-dump"}));
  EXPECT_EQ(dir_.read("log"), "[network-lock]\n[]\n");
}

TEST_F(ActionScriptsTest, AllAreRunAndTheFirstFailureCounts) {
  ActionScripts scripts({script("a", "#!/bin/sh\nexit 3\n"), script("b", "#!/bin/sh\nkill -9 $$\n"),
                         script("c", "#!/bin/sh\necho ran\n")},
                        dir_.fd(), 1, log_);
  const auto ran = scripts.run({.stage = "post-dump"});
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().message(),
            "action script " + dir_.path("a") + " at stage post-dump: exited with status 3");
  EXPECT_EQ(dir_.read("log"), "ran\n");
}

TEST_F(ActionScriptsTest, AKilledScriptFailed) {
  ActionScripts scripts({script("b", "#!/bin/sh\nkill -9 $$\n")}, dir_.fd(), 1, log_);
  EXPECT_THAT(scripts.run({.stage = "pre-dump"}).error().message(),
              HasSubstr("killed by signal 9"));
}

TEST_F(ActionScriptsTest, AMissingScriptIsNamed) {
  ActionScripts scripts({dir_.path("absent")}, dir_.fd(), 1, log_);
  EXPECT_THAT(scripts.run({.stage = "pre-dump"}).error().message(),
              HasSubstr(dir_.path("absent") + " at stage pre-dump: exec: No such file"));
}

TEST_F(ActionScriptsTest, AScriptWithoutInterpreterLineIsTheShells) {
  ActionScripts scripts({script("s", "echo shell\n")}, dir_.fd(), 1, log_);
  ASSERT_TRUE(scripts.run({.stage = "pre-dump"}));
  EXPECT_EQ(dir_.read("log"), "shell\n");
}

TEST_F(ActionScriptsTest, QuestionsToClientsAreNotForScripts) {
  ActionScripts scripts({script("s", "#!/bin/sh\necho no; exit 1\n")}, dir_.fd(), 1, log_);
  EXPECT_TRUE(scripts.run({.stage = "query-ext-files"}));
  EXPECT_TRUE(scripts.run({.stage = "orphan-pts-master"}));
  EXPECT_EQ(dir_.read("log"), "");
}

TEST_F(ActionScriptsTest, ScriptsInheritNothingButTheLog) {
  const int leaky = ::dup(dir_.fd());  // without close-on-exec
  ActionScripts scripts({script("s", "#!/bin/sh\nls /proc/$$/fd | tr '\\n' ' '\n")}, dir_.fd(), 1,
                        log_);
  ASSERT_TRUE(scripts.run({.stage = "pre-dump"}));
  ::close(leaky);
  EXPECT_THAT(dir_.read("log"), Not(HasSubstr(format(" {} ", leaky))));
}

}  // namespace
}  // namespace dormouse::shim
