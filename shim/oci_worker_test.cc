#include "shim/oci_worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "shim/testing.h"

namespace dormouse::shim {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Work = std::function<RestoreResult(const engine::Notify&)>;

RestoreResult restored(pid_t pid) {
  engine::RestoreReport report;
  report.root_pid = pid;
  return report;
}
RestoreResult failed(std::vector<Error> errors) { return std::unexpected(engine::Failures{std::move(errors)}); }
Result<> accept_all(const engine::Notification&) { return {}; }

Result<pid_t> run(const Work& work, const engine::Notify& watcher = accept_all) {
  auto signals = SignalReader::start();
  if (!signals) return fail(signals.error());
  auto worker = RestoreWorker::start(work, *signals);
  if (!worker) return fail(worker.error());
  return worker->serve(watcher, *signals);
}

TEST(RestoreWorker, TellsThePidOfTheRootTask) {
  const auto pid = run([](const engine::Notify&) { return restored(4711); });
  ASSERT_TRUE(pid) << pid.error().message();
  EXPECT_EQ(*pid, 4711);
}

TEST(RestoreWorker, NotificationsReachTheRuntimeInOrder) {
  std::vector<std::string> stages;
  const auto pid = run(
      [](const engine::Notify& notify) {
        for (const char* stage : {"pre-restore", "setup-namespaces"})
          if (!notify({.stage = stage, .root_pid = 12})) return failed({});
        return restored(12);
      },
      [&](const engine::Notification& stage) -> Result<> {
        stages.push_back(stage.stage + " " + std::to_string(stage.root_pid) + " " + std::to_string(stage.descriptor));
        return {};
      });
  EXPECT_TRUE(pid);
  EXPECT_THAT(stages, ElementsAre("pre-restore 12 -1", "setup-namespaces 12 -1"));
}

TEST(RestoreWorker, ADescriptorComesAlong) {
  TemporaryDirectory directory;
  directory.write("there", "the terminal");
  std::string content;
  const auto pid = run(
      [&](const engine::Notify& notify) {
        const Fd file(::open(directory.path("there").c_str(), O_RDONLY | O_CLOEXEC));
        return notify({.stage = "orphan-pts-master", .descriptor = file.get()}) ? restored(1) : failed({});
      },
      [&](const engine::Notification& stage) -> Result<> {
        char text[32] = {};
        EXPECT_GT(::pread(stage.descriptor, text, sizeof text - 1, 0), 0);
        content = text;
        return {};
      });
  EXPECT_TRUE(pid);
  EXPECT_EQ(content, "the terminal");
}

TEST(RestoreWorker, ARefusalReachesTheEngineAndComesBack) {
  const auto pid = run(
      [](const engine::Notify& notify) {
        auto answer = notify({.stage = "setup-namespaces"});
        return answer ? restored(1) : failed({answer.error()});
      },
      [](const engine::Notification&) -> Result<> {
        return fail(Error::conflict("exited with status 3", ECANCELED).object("prestart hook /bin/x"));
      });
  ASSERT_FALSE(pid);
  EXPECT_EQ(pid.error().message(), "prestart hook /bin/x: exited with status 3");
}

TEST(RestoreWorker, ManyFailuresAreOneLine) {
  const auto pid = run([](const engine::Notify&) {
    return failed({Error::unsupported("one"), Error::unsupported("two"), Error::unsupported("three")});
  });
  ASSERT_FALSE(pid);
  EXPECT_EQ(pid.error().message(), "one (and 2 more, see the log)");
}

TEST(RestoreWorker, ManyLongFailuresStillFitIntoAMessage) {
  const auto pid = run([](const engine::Notify&) {
    return failed(std::vector(1000, Error::unsupported(std::string(100'000, 'x'))));
  });
  ASSERT_FALSE(pid);
  EXPECT_THAT(pid.error().message(), HasSubstr("and 999 more"));
}

TEST(RestoreWorker, ItsDeathIsAnError) {
  const auto killed = run([](const engine::Notify&) -> RestoreResult {
    ::raise(SIGKILL);
    return restored(1);
  });
  ASSERT_FALSE(killed);
  EXPECT_THAT(killed.error().message(), HasSubstr("killed by signal 9"));
  const auto silent = run([](const engine::Notify&) -> RestoreResult { ::_exit(7); });
  ASSERT_FALSE(silent);
  EXPECT_THAT(silent.error().message(), HasSubstr("exited with status 7"));
}

TEST(RestoreWorker, ASignalToTheRuntimeEndsIt) {
  const pid_t runtime = ::getpid();
  const auto pid = run([&](const engine::Notify&) -> RestoreResult {
    ::kill(runtime, SIGTERM);
    ::pause();
    return restored(1);
  });
  ASSERT_FALSE(pid);
  EXPECT_THAT(pid.error().message(), HasSubstr("interrupted by a signal"));
}

TEST(RestoreWorker, OtherSignalsDoNot) {
  const pid_t runtime = ::getpid();
  const auto pid = run([&](const engine::Notify& notify) {
    ::kill(runtime, SIGWINCH);
    return notify({.stage = "pre-resume"}) ? restored(5) : failed({});
  });
  ASSERT_TRUE(pid) << pid.error().message();
  EXPECT_EQ(*pid, 5);
}

TEST(RestoreWorker, SignalsForARestoredContainerAreLeftToIt) {
  const pid_t runtime = ::getpid();
  auto signals = SignalReader::start();
  ASSERT_TRUE(signals);
  auto worker = RestoreWorker::start(
      [&](const engine::Notify& notify) {
        if (!notify({.stage = "post-restore"})) return failed({});
        ::kill(runtime, SIGTERM);
        return notify({.stage = "pre-resume"}) ? restored(5) : failed({});
      },
      *signals);
  ASSERT_TRUE(worker);
  EXPECT_EQ(worker->serve(accept_all, *signals).value(), 5);
  EXPECT_EQ(signals->next(), SIGTERM);
}

TEST(SignalReader, TheExitStatusIsThatOfTheContainer) {
  auto signals = SignalReader::start();
  ASSERT_TRUE(signals);
  const auto child = [&](auto what) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::sigprocmask(SIG_SETMASK, &signals->original_mask(), nullptr);
      what();
      ::_exit(42);
    }
    return pid;
  };
  EXPECT_EQ(signals->forward_until_end(child([] {})).value(), 42);
  const pid_t waiting = child([] { ::pause(); });
  ::kill(::getpid(), SIGTERM);  // ours becomes its
  EXPECT_EQ(signals->forward_until_end(waiting).value(), 128 + SIGTERM);
}

}  // namespace
}  // namespace dormouse::shim
