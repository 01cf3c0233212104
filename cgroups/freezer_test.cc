#include "cgroups/freezer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "cgroups/testing.h"
#include "kernel/file.h"
#include "kernel/process.h"

namespace dormouse::cgroups {
namespace {

using namespace std::chrono_literals;

// --- on plain files -----------------------------------------------------------------------------

TEST(Freezer, V1StateComesBackAsFound) {
  FakeTree tree;
  tree.write("freezer.state", "THAWED");
  {
    auto freezer = Freezer::open(tree.path()).value();
    EXPECT_EQ(freezer.version(), Freezer::Version::kV1);
    EXPECT_FALSE(freezer.was_frozen());
    ASSERT_TRUE(freezer.freeze(1s));
    EXPECT_EQ(tree.read("freezer.state"), "FROZEN");
  }
  EXPECT_EQ(tree.read("freezer.state"), "THAWED");
}

TEST(Freezer, V1FrozenBeforeIsFrozenAfterwards) {
  FakeTree tree;
  tree.write("freezer.state", "FROZEN");
  auto freezer = Freezer::open(tree.path()).value();
  EXPECT_TRUE(freezer.was_frozen());
  ASSERT_TRUE(freezer.freeze(1s));
  ASSERT_TRUE(freezer.thaw());
  EXPECT_EQ(tree.read("freezer.state"), "THAWED");
  ASSERT_TRUE(freezer.finish(Freezer::Leave::kAsFound));
  EXPECT_EQ(tree.read("freezer.state"), "FROZEN");
}

TEST(Freezer, ThawedForTasksThatMustDie) {
  FakeTree tree;
  tree.write("freezer.state", "FROZEN");
  auto freezer = Freezer::open(tree.path()).value();
  ASSERT_TRUE(freezer.finish(Freezer::Leave::kThawed));
  EXPECT_EQ(tree.read("freezer.state"), "THAWED");
}

TEST(Freezer, FrozenFromAboveIsToldApart) {
  FakeTree tree;
  tree.write("freezer.state", "FROZEN");
  tree.write("freezer.self_freezing", "0\n");
  tree.write("freezer.parent_freezing", "1\n");
  auto freezer = Freezer::open(tree.path()).value();
  EXPECT_FALSE(freezer.was_frozen());
  const auto thawed = freezer.thaw();
  ASSERT_FALSE(thawed);
  EXPECT_EQ(thawed.error().kind(), Error::Kind::kUnsupported);
}

TEST(Freezer, NeitherVersionIsABadOption) {
  FakeTree tree;
  EXPECT_EQ(Freezer::open(tree.path()).error().kind(), Error::Kind::kBadOption);
  EXPECT_TRUE(Freezer::open("/no/such/group").error().is_kernel(ENOENT));
}

TEST(Freezer, ListsTheWholeTreeAndSkipsForeignTasks) {
  FakeTree tree;
  tree.write("cgroup.freeze", "0\n");
  tree.write("cgroup.threads", "11\n0\n12\n");
  tree.write("sub/cgroup.threads", "13\n");
  tree.write("sub/deeper/cgroup.threads", "");
  tree.write("cgroup.procs", "11\n");
  tree.write("sub/cgroup.procs", "13\n");
  tree.write("sub/deeper/cgroup.procs", "");
  const auto freezer = Freezer::open(tree.path()).value();
  EXPECT_EQ(freezer.version(), Freezer::Version::kV2);
  EXPECT_EQ(freezer.threads().value(), (std::vector<pid_t>{11, 12, 13}));
  EXPECT_EQ(freezer.processes().value(), (std::vector<pid_t>{11, 13}));
}

TEST(Freezer, DoesNotFreezeItself) {
  FakeTree tree;
  tree.write("freezer.state", "THAWED");
  tree.write("cgroup.procs", "");
  tree.write("sub/cgroup.procs", std::to_string(::getpid()) + "\n");
  auto freezer = Freezer::open(tree.path()).value();
  EXPECT_EQ(freezer.freeze(1s).error().kind(), Error::Kind::kBadOption);
  EXPECT_EQ(tree.read("freezer.state"), "THAWED");
}

TEST(Freezer, V2NotFrozenInTimeIsToldAndUndone) {
  FakeTree tree;
  tree.write("cgroup.freeze", "0");
  tree.write("cgroup.events", "populated 1\nfrozen 0\n");
  // A plain file is always ready: every wake-up finds it unchanged until the time is over.
  {
    auto freezer = Freezer::open(tree.path()).value();
    EXPECT_EQ(freezer.freeze(0ms).error().kind(), Error::Kind::kUnsupported);
  }
  EXPECT_EQ(tree.read("cgroup.freeze"), "0");
}

TEST(Watchdog, SpeaksOnlyIfTheEngineDies) {
  FakeTree tree;
  tree.write("state", "------");
  const auto file = sys::openat(AT_FDCWD, tree.path() + "/state", O_WRONLY).value();
  {
    const auto quiet = sys::Watchdog::start(file.get(), "spoken").value();
  }
  EXPECT_EQ(tree.read("state"), "------");

  // A stand-in for the engine is killed. Its watchdog is our grandchild: we watch the file's reader end.
  const auto pipe = sys::pipe2().value();
  const pid_t engine = ::fork();
  if (engine == 0) {
    auto watchdog = sys::Watchdog::start(pipe.write_end.get(), "spoken");
    (void)sys::write_all(pipe.write_end.get(), watchdog ? "ready:" : "failed");
    for (;;) ::pause();
  }
  std::string said(6, '\0');
  ASSERT_TRUE(sys::read_exactly(pipe.read_end.get(), std::as_writable_bytes(std::span(said))));
  EXPECT_EQ(said, "ready:");
  ASSERT_TRUE(sys::kill(engine, SIGKILL));
  ASSERT_TRUE(sys::waitid(P_PID, static_cast<id_t>(engine), WEXITED));
  ASSERT_TRUE(sys::read_exactly(pipe.read_end.get(), std::as_writable_bytes(std::span(said))));
  EXPECT_EQ(said, "spoken");
}

// --- on this node's cgroups (root) ----------------------------------------------------------------

class FreezerLive : public testing::TestWithParam<const char*> {};

// A process that counts as fast as it can in shared memory: whether it runs can be seen.
class Counter {
 public:
  explicit Counter(const LiveGroup& group)
      : page_(sys::Mapping::map(-1, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS).value()) {
    pid_ = ::fork();
    if (pid_ == 0)
      for (;;) *count() = *count() + 1;
    group.add(pid_);
  }
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;
  ~Counter() {
    (void)sys::kill(pid_, SIGKILL);
    (void)sys::waitid(P_PID, static_cast<id_t>(pid_), WEXITED);
  }
  pid_t pid() const { return pid_; }
  bool runs() const {
    const std::uint64_t before = *count();
    for (int i = 0; i < 200 && *count() == before; ++i) ::usleep(1000);
    return *count() != before;
  }
  // After the current moment it makes no more progress.
  bool stands() const {
    ::usleep(2000);
    const std::uint64_t before = *count();
    ::usleep(20'000);
    return *count() == before;
  }

 private:
  volatile std::uint64_t* count() const { return reinterpret_cast<volatile std::uint64_t*>(page_.data()); }
  sys::Mapping page_;
  pid_t pid_;
};

TEST_P(FreezerLive, FreezesListsAndThaws) {
  const LiveGroup group(GetParam());
  if (!group) GTEST_SKIP() << "needs root and a cgroup hierarchy with a freezer: " << group.why_not();
  const Counter counter(group);
  EXPECT_TRUE(counter.runs());
  {
    auto freezer = Freezer::open(group.directory()).value();
    ASSERT_TRUE(freezer.freeze(5s));
    EXPECT_TRUE(counter.stands());
    EXPECT_EQ(freezer.threads().value(), std::vector{counter.pid()});
    ASSERT_TRUE(freezer.thaw());
    EXPECT_TRUE(counter.runs());
    ASSERT_TRUE(freezer.freeze(5s));
  }
  EXPECT_TRUE(counter.runs());
}

TEST_P(FreezerLive, TheEnginesDeathThaws) {
  const LiveGroup group(GetParam());
  if (!group) GTEST_SKIP() << "needs root and a cgroup hierarchy with a freezer: " << group.why_not();
  const Counter counter(group);
  const auto pipe = sys::pipe2().value();
  const pid_t engine = ::fork();
  if (engine == 0) {
    auto freezer = Freezer::open(group.directory());
    const bool ok = freezer && freezer->freeze(5s);
    (void)sys::write_all(pipe.write_end.get(), ok ? "y" : "n");
    for (;;) ::pause();
  }
  std::string said(1, '\0');
  ASSERT_TRUE(sys::read_exactly(pipe.read_end.get(), std::as_writable_bytes(std::span(said))));
  EXPECT_EQ(said, "y");
  EXPECT_TRUE(counter.stands());
  ASSERT_TRUE(sys::kill(engine, SIGKILL));
  ASSERT_TRUE(sys::waitid(P_PID, static_cast<id_t>(engine), WEXITED));
  EXPECT_TRUE(counter.runs());
}

INSTANTIATE_TEST_SUITE_P(Versions, FreezerLive, testing::Values("freezer", ""),
                         [](const auto& which) { return *which.param ? "v1" : "v2"; });

}  // namespace
}  // namespace dormouse::cgroups
