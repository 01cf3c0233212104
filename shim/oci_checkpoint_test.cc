#include "shim/oci_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>

#include <filesystem>

#include "shim/oci_store.h"
#include "shim/testing.h"

namespace dormouse::shim {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Field;
using ::testing::HasSubstr;

// A "container" of runc whose init is a process of ours.
struct Bench {
  Bench() : init(::fork()) {
    if (init == 0)
      for (;;) ::pause();
    fs::create_directories(here.path("rootfs/run"));
    fs::create_directories(here.path("states/web"));
    here.write("states/web/state.json",
               R"({"id": "web", "init_process_pid": )" + std::to_string(init) + R"(, "init_process_start": )" +
                   std::to_string(start_ticks_of(init).value_or(0)) +
                   R"(, "cgroup_paths": {"freezer": "/cg/freezer/web", "": "/cg/web"},
                      "external_descriptors": ["/dev/null", "pipe:[4711]", "pipe:[4712]"],
                      "config": {"rootfs": ")" + here.path("rootfs") + R"(", "labels": ["bundle=/b", "org.criu.config=)" +
                   here.path("criu.conf") + R"("], "mask_paths": ["/etc/passwd", "/proc"],
                      "mounts": [{"destination": "/data", "device": "bind", "source": "/srv"}],
                      "namespaces": [{"type": "NEWNET", "path": "/proc/self/ns/net"}]}})");
    request.id = "web";
    request.roots = {here.path("states")};
    request.image_path = here.path("images/deep");
    request.work_path = here.path("work");
  }
  ~Bench() {
    ::kill(init, SIGKILL);
    ::waitpid(init, nullptr, 0);
    EXPECT_EQ(::chdir("/"), 0);  // an operation leaves us in its work directory, which goes now
  }
  EngineApi engine(CheckpointResult answer = engine::CheckpointReport{}) {
    EngineApi api;
    api.checkpoint = [this, answer](const engine::CheckpointOptions& options) {
      asked = options;
      return answer;
    };
    return api;
  }

  TemporaryDirectory here;
  pid_t init;
  OciCheckpoint request;
  engine::CheckpointOptions asked;
};

TEST(OciCheckpoint, TheEngineIsToldWhatRuncWouldTellIt) {
  Bench bench;
  bench.request.leave_running = true;
  bench.request.tcp_established = true;
  const auto done = checkpoint_container(bench.engine(), bench.request);
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(bench.asked.pid, bench.init);
  EXPECT_EQ(bench.asked.root, bench.here.path("rootfs"));
  EXPECT_EQ(bench.asked.after, engine::AfterDump::kResume);
  EXPECT_TRUE(bench.asked.tcp_established);
  EXPECT_TRUE(bench.asked.orphan_pts_master);
  EXPECT_EQ(bench.asked.empty_namespaces, static_cast<std::uint64_t>(CLONE_NEWNET));
  EXPECT_THAT(bench.asked.freeze_cgroup, HasSubstr("/web"));
  EXPECT_THAT(bench.asked.externals, Contains(AllOf(HasSubstr("net["), HasSubstr("]:extRootNetNS"))));
  const auto mount = [](const std::string& key, const std::string& value) {
    return Contains(AllOf(Field(&engine::ExternalMount::key, key), Field(&engine::ExternalMount::value, value)));
  };
  EXPECT_THAT(bench.asked.external_mounts, mount("/data", "/data"));
  EXPECT_THAT(bench.asked.external_mounts, mount("/etc/passwd", "/dev/null")) << "a masked file";
  EXPECT_THAT(bench.asked.external_mounts, Not(Contains(Field(&engine::ExternalMount::key, "/proc")))) << "a masked directory";
}

TEST(OciCheckpoint, DescriptorsAndLogLieWhereRuncPutsThem) {
  Bench bench;
  ASSERT_TRUE(checkpoint_container(bench.engine(), bench.request));
  EXPECT_EQ(bench.here.read("images/deep/descriptors.json"), R"(["/dev/null","pipe:[4711]","pipe:[4712]"])");
  EXPECT_TRUE(bench.here.has("work/dump.log"));
  EXPECT_EQ(bench.asked.after, engine::AfterDump::kKill);
}

TEST(OciCheckpoint, TheContainersConfigurationFileIsAppliedLast) {
  Bench bench;
  bench.here.write("criu.conf", "tcp-established\nghost-limit 2M\n");
  ASSERT_TRUE(checkpoint_container(bench.engine(), bench.request));
  EXPECT_TRUE(bench.asked.tcp_established);
  EXPECT_EQ(bench.asked.ghost_limit_bytes, 2u << 20);
}

TEST(OciCheckpoint, AFailureIsOneLineAndRuncsStateIsNotTouched) {
  Bench bench;
  const std::string state = bench.here.read("states/web/state.json");
  const auto done = checkpoint_container(
      bench.engine(std::unexpected(engine::Failures{{Error::unsupported("a kind of socket").object("fd 7"), Error::unsupported("another")}})),
      bench.request);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().message(), "fd 7: a kind of socket (and 1 more, see " + bench.here.path("work/dump.log.json") + ")");
  EXPECT_EQ(bench.here.read("states/web/state.json"), state);
  EXPECT_EQ(std::distance(fs::directory_iterator(bench.here.path("states/web")), fs::directory_iterator()), 1);
}

TEST(OciCheckpoint, AStoppedContainerIsRefusedBeforeAnythingIsWritten) {
  Bench bench;
  ::kill(bench.init, SIGKILL);
  siginfo_t info;
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(bench.init), &info, WEXITED | WNOWAIT), 0);
  const auto done = checkpoint_container(bench.engine(), bench.request);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message(), HasSubstr("container web: is stopped"));
  EXPECT_FALSE(bench.here.has("images"));
}

TEST(OciOptions, UnknownWordsAreNamedWithTheKnownOnes) {
  OciOptions options;
  options.manage_cgroups = "hard";
  EXPECT_THAT(settings_for(options, {}, "x").error().message(),
              AllOf(HasSubstr("--manage-cgroups-mode"), HasSubstr("'hard' is not known"), HasSubstr("soft")));
}

TEST(OciOptions, TheConfigurationFileIsRuncsUnlessTheContainerHasItsOwn) {
  oci::Config config;
  EXPECT_EQ(config_file_for(config), "/etc/criu/runc.conf");
  config.annotations["org.criu.config"] = "";
  EXPECT_EQ(config_file_for(config), "");
}

}  // namespace
}  // namespace dormouse::shim
