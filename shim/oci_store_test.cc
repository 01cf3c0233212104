#include "shim/oci_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <filesystem>

#include "shim/oci_lifecycle.h"
#include "shim/testing.h"

namespace dormouse::shim {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kConfig = R"({"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "annotations": {"k": "v"}})";

// A process that does nothing until it is killed.
class Sleeper {
 public:
  Sleeper() : pid_(::fork()) {
    if (pid_ == 0)
      for (;;) ::pause();
  }
  ~Sleeper() { end(); }
  pid_t pid() const { return pid_; }
  std::uint64_t start() const { return start_ticks_of(pid_).value(); }
  int end() {
    int status = 0;
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, &status, 0);
    }
    pid_ = 0;
    return status;
  }

 private:
  pid_t pid_;
};

struct Node {
  // One of ours, as a restore leaves it.
  void add_own(const std::string& id, pid_t pid, std::uint64_t start, const std::string& config = kConfig) {
    auto made = StateDirectory::create(root.path(), id, config);
    ASSERT_TRUE(made) << made.error().message();
    ASSERT_TRUE(made->save({.id = id, .pid = pid, .pid_start_ticks = start, .created = "2026-01-02T03:04:05Z",
                            .bundle = root.path(), .rootfs = "/r", .cgroup_paths = {}, .external_descriptors = {}}));
    made->keep();
  }
  void add_runc(const std::string& id, pid_t pid, std::uint64_t start) {
    fs::create_directories(root.path(id));
    root.write(id + "/state.json", R"({"id": ")" + id + R"(", "init_process_pid": )" + std::to_string(pid) +
                                       R"(, "init_process_start": )" + std::to_string(start) +
                                       R"(, "config": {"rootfs": "/r", "version": "1.0.2", "labels": ["bundle=/b"]}})");
  }
  std::vector<std::string> roots() const { return {root.path("nothing"), root.path()}; }
  TemporaryDirectory root;
};

TEST(Store, AContainerIsFoundByTheFirstRootThatHasIt) {
  Node node;
  Sleeper init;
  node.add_own("web", init.pid(), init.start());
  const auto found = find_container(node.roots(), "web");
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_TRUE(found->ours);
  EXPECT_EQ(found->status(), "running");
  EXPECT_EQ(found->config.annotations.at("k"), "v");
  EXPECT_EQ(found->config.rootfs, node.root.path("rootfs"));
}

TEST(Store, RuncsAreReadToo) {
  Node node;
  Sleeper init;
  node.add_runc("web", init.pid(), init.start());
  const auto found = find_container(node.roots(), "web");
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_FALSE(found->ours);
  EXPECT_EQ(found->status(), "running");
  node.root.write("web/exec.fifo", "");
  EXPECT_EQ(found->status(), "created");
}

TEST(Store, AnotherProcessWithTheSamePidIsNotTheContainer) {
  Node node;
  Sleeper other;
  node.add_own("web", other.pid(), other.start() - 1);
  EXPECT_EQ(find_container(node.roots(), "web")->status(), "stopped");
}

TEST(Store, AZombieHasStopped) {
  Node node;
  Sleeper init;
  node.add_own("web", init.pid(), init.start());
  ::kill(init.pid(), SIGKILL);
  siginfo_t info;
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(init.pid()), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(find_container(node.roots(), "web")->status(), "stopped");
}

TEST(Store, AnUnknownOrHostileNameIsAnError) {
  Node node;
  EXPECT_THAT(find_container(node.roots(), "web").error().message(),
              AllOf(HasSubstr("container web: there is none of this name in"), HasSubstr("--root")));
  EXPECT_THAT(find_container(node.roots(), "../web").error().message(), HasSubstr("container id"));
  EXPECT_FALSE(StateDirectory::create(node.root.path(), "../web", ""));
}

TEST(Store, ANameIsTakenOnce) {
  Node node;
  node.add_own("web", 0, 0);
  const auto again = StateDirectory::create(node.root.path(), "web", kConfig);
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message(), HasSubstr("container web: exists already"));
  EXPECT_TRUE(node.root.has("web/state.json")) << "the other's state is not touched";
}

TEST(Store, AnAbandonedStateGoesAway) {
  Node node;
  {
    const auto made = StateDirectory::create(node.root.path(), "web", kConfig);
    ASSERT_TRUE(made);
    EXPECT_TRUE(node.root.has("web/config.json"));
  }
  EXPECT_FALSE(node.root.has("web"));
}

TEST(Store, APathThatJsonCannotHoldIsRefused) {
  Node node;
  const auto made = StateDirectory::create(node.root.path(), "web", kConfig);
  ASSERT_TRUE(made);
  oci::State state;
  state.id = "web";
  state.bundle = "/bundles/\xff";
  EXPECT_THAT(made->save(state).error().message(), HasSubstr("UTF-8"));
}

TEST(Lifecycle, StateIsTheSpecifications) {
  Node node;
  Sleeper init;
  node.add_own("web", init.pid(), init.start());
  EXPECT_EQ(container_state(node.roots(), "web").value(),
            R"({"ociVersion":"1.0.2","id":"web","status":"running","pid":)" + std::to_string(init.pid()) + R"(,"bundle":")" +
                node.root.path() + R"(","rootfs":")" + node.root.path("rootfs") +
                R"(","created":"2026-01-02T03:04:05Z","annotations":{"k":"v"}})");
}

TEST(Lifecycle, KillSendsTheSignal) {
  Node node;
  Sleeper init;
  node.add_own("web", init.pid(), init.start());
  ASSERT_TRUE(kill_container(node.roots(), "web", "TERM", false));
  int status = 0;
  ASSERT_EQ(::waitpid(init.pid(), &status, 0), init.pid());
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
  EXPECT_THAT(kill_container(node.roots(), "web", "TERM", false).error().message(), HasSubstr("is stopped"));
}

TEST(Lifecycle, DeletingARunningContainerTakesForce) {
  Node node;
  Sleeper init;
  node.add_own("web", init.pid(), init.start());
  EXPECT_THAT(delete_container(node.roots(), "web", {}).error().message(), HasSubstr("is running"));
  EXPECT_TRUE(node.root.has("web/state.json"));
  ASSERT_TRUE(delete_container(node.roots(), "web", {.force = true}));
  EXPECT_FALSE(node.root.has("web"));
  EXPECT_EQ(WTERMSIG(init.end()), SIGKILL);
}

TEST(Lifecycle, TheLastHooksRunAfterTheEnd) {
  Node node;
  const auto hook = node.root.write("hook", "#!/bin/sh\ncat > seen\n", 0755);
  node.add_own("web", 0x3ffffff, 1,
               R"({"ociVersion": "1", "root": {"path": "r"}, "hooks": {"poststop": [{"path": ")" + hook + R"("}]}})");
  ASSERT_TRUE(delete_container(node.roots(), "web", {}));
  EXPECT_THAT(node.root.read("seen"), AllOf(HasSubstr(R"("id":"web")"), HasSubstr(R"("status":"stopped")")));
}

TEST(Lifecycle, DeletingWhatIsNotThereIsAnErrorUnlessForced) {
  Node node;
  EXPECT_FALSE(delete_container(node.roots(), "web", {}));
  EXPECT_TRUE(delete_container(node.roots(), "web", {.force = true}));
}

TEST(Lifecycle, RuncsContainersAreRuncs) {
  Node node;
  Sleeper init;
  node.add_runc("web", init.pid(), init.start());
  EXPECT_THAT(kill_container(node.roots(), "web", "KILL", false).error().message(), HasSubstr("use `runc kill`"));
  EXPECT_THAT(delete_container(node.roots(), "web", {.force = true}).error().message(), HasSubstr("belongs to runc"));
  EXPECT_EQ(::kill(init.pid(), 0), 0);
  EXPECT_TRUE(node.root.has("web/state.json"));
}

TEST(Lifecycle, SignalsHaveNamesAndNumbers) {
  EXPECT_EQ(parse_signal("KILL").value(), SIGKILL);
  EXPECT_EQ(parse_signal("sigterm").value(), SIGTERM);
  EXPECT_EQ(parse_signal("9").value(), 9);
  for (const char* text : {"", "0", "-9", "9x", "SIGNONSENSE", "99999999999"}) EXPECT_FALSE(parse_signal(text)) << text;
}

}  // namespace
}  // namespace dormouse::shim
