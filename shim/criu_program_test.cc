#include "shim/criu_program.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/testing.h"

namespace dormouse::shim {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class CriuProgramTest : public ::testing::Test {
 protected:
  CriuProgramTest() : home_(::open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    engine_.checkpoint = [this](const engine::CheckpointOptions& options) {
      dumped_ = options;
      if (fails_)
        return CheckpointResult(
            std::unexpected(engine::Failures{{Error::unsupported("no").object("fd 7")}}));
      return CheckpointResult(engine::CheckpointReport{});
    };
    engine_.restore = [this](const engine::RestoreOptions& options) {
      restored_ = options;
      if (fails_) return RestoreResult(std::unexpected(engine::Failures{}));
      if (options.notify)
        if (auto told = options.notify({.stage = "post-restore", .root_pid = root_}); !told)
          return RestoreResult(std::unexpected(engine::Failures{{told.error()}}));
      return RestoreResult(engine::RestoreReport{.root_pid = root_});
    };
    engine_.has_feature = [](sys::Feature) { return true; };
  }
  ~CriuProgramTest() override { EXPECT_EQ(::fchdir(home_.get()), 0); }

  int run(std::vector<std::string> words) {
    const Fd out(::open(dir_.path("out").c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600));
    const Fd err(::open(dir_.path("err").c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600));
    std::vector<const char*> pointers;
    for (const std::string& word : words) pointers.push_back(word.c_str());
    return criu_program(pointers, files_, engine_, {.out = out.get(), .err = err.get()});
  }
  std::string out() const { return dir_.read("out"); }
  std::string err() const { return dir_.read("err"); }
  std::string log() const { return images_.read("dump.log"); }

  Fd home_;
  TemporaryDirectory dir_, images_;
  ConfigFiles files_;
  EngineApi engine_;
  std::optional<engine::CheckpointOptions> dumped_;
  std::optional<engine::RestoreOptions> restored_;
  bool fails_ = false;
  pid_t root_ = 4711;
};

TEST_F(CriuProgramTest, VersionIsOneLineThatToolsParse) {
  files_.global = dir_.write("bad.conf", "no-such-option\n");
  EXPECT_EQ(run({"--version"}), 0);
  EXPECT_EQ(out(), "Version: 4.2\n");
  EXPECT_EQ(run({"-V"}), 0);
  EXPECT_EQ(err(), "");
}

TEST_F(CriuProgramTest, Help) {
  EXPECT_EQ(run({"dump", "-h"}), 0);
  EXPECT_THAT(out(), StartsWith("Usage:\n"));
}

TEST_F(CriuProgramTest, UsageErrorsAreNamedOnStderr) {
  EXPECT_EQ(run({}), 1);
  EXPECT_THAT(err(), HasSubstr("a command is needed"));
  EXPECT_EQ(run({"sleep"}), 1);
  EXPECT_THAT(err(), HasSubstr("sleep: unknown command"));
  EXPECT_EQ(run({"dump", "--nosuch"}), 1);
  EXPECT_THAT(err(), ContainsRegex("^Error \\(shim/[^)]*\\): --nosuch: unknown option\n$"));
  EXPECT_EQ(out(), "");
}

TEST_F(CriuProgramTest, CommandsThatAreNotBuiltAreRefusedByName) {
  for (const char* name :
       {"page-server", "service", "lazy-pages", "exec", "show"}) {
    EXPECT_EQ(run({name}), 1);
    EXPECT_THAT(err(), HasSubstr(format("command {}: not built yet", name)));
  }
}

TEST_F(CriuProgramTest, CpuinfoIsTwoWords) {
  std::string did;
  engine_.save_cpu = [&](int) -> Result<> {
    did += "saved ";
    return {};
  };
  engine_.check_cpu = [&](int, const engine::CpuChecks& checks) -> Result<> {
    did += format("checked{}{}{} ", checks.fpu ? " fpu" : "", checks.instructions ? " ins" : "",
                  checks.exact ? " cpu" : "");
    if (fails_) return fail(Error::unsupported("it lacks avx").object("CPU"));
    return {};
  };
  EXPECT_EQ(run({"cpuinfo", "dump", "-D", images_.path()}), 0);
  EXPECT_EQ(run({"cpuinfo", "check", "-D", images_.path()}), 0);
  EXPECT_EQ(run({"cpuinfo", "check", "--cpu-cap=none", "-D", images_.path()}), 0);
  EXPECT_EQ(did, "saved checked fpu ins checked fpu ins cpu ");
  fails_ = true;
  EXPECT_EQ(run({"cpuinfo", "check", "-D", images_.path(), "-o", images_.path("dump.log")}), 1);
  EXPECT_THAT(log(), HasSubstr("CPU: it lacks avx"));
  EXPECT_EQ(run({"cpuinfo"}), 1);
  EXPECT_EQ(run({"cpuinfo", "eat"}), 1);
  EXPECT_THAT(err(), HasSubstr("usage: criu cpuinfo {dump|check}"));
}

TEST_F(CriuProgramTest, DumpAsLxcDoesIt) {
  EXPECT_EQ(run({"dump",
                 "--tcp-established",
                 "--file-locks",
                 "--link-remap",
                 "--manage-cgroups=full",
                 "--ext-mount-map",
                 "auto",
                 "--enable-external-sharing",
                 "--enable-external-masters",
                 "--enable-fs",
                 "hugetlbfs",
                 "--enable-fs",
                 "tracefs",
                 "-D",
                 images_.path(),
                 "-o",
                 images_.path("dump.log"),
                 "--cgroup-root",
                 "cpu,cpuacct:/lxc/c",
                 "-v4",
                 "--ext-mount-map",
                 "/dev/console:console",
                 "--external",
                 "tty[8801:c]",
                 "-t",
                 "42",
                 "--freeze-cgroup",
                 "/sys/fs/cgroup/freezer/lxc/c",
                 "--ghost-limit",
                 "268435456"}),
            0);
  EXPECT_EQ(out() + err(), "");
  EXPECT_EQ(dumped_->pid, 42);
  EXPECT_EQ(dumped_->after, engine::AfterDump::kKill);
  EXPECT_THAT(dumped_->enabled_filesystems, ElementsAre("hugetlbfs", "tracefs"));
  EXPECT_TRUE(dumped_->auto_external_mounts && dumped_->external_masters);
  EXPECT_EQ(dumped_->cgroup_roots[0].controller, "cpu,cpuacct");
  EXPECT_THAT(log(), HasSubstr("Dumping finished successfully"));
}

TEST_F(CriuProgramTest, WithoutALogFileErrorsGoToStderrOnceAndAReportToTheWorkDirectory) {
  fails_ = true;
  const pid_t child = ::fork();  // stderr of a process of its own
  if (child == 0) {
    const int err = ::open(dir_.path("stderr").c_str(), O_CREAT | O_WRONLY, 0600);
    ::dup2(err, STDERR_FILENO);
    ::_exit(run({"dump", "-t", "42", "-D", images_.path()}));
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_THAT(dir_.read("stderr"), ContainsRegex("^Error \\(shim/[^)]*\\): fd 7: no\n$"));
  EXPECT_THAT(images_.read("dormouse-errors.json"), HasSubstr("\"object\": \"fd 7\""));
}

TEST_F(CriuProgramTest, DumpNeedsAProcessAndNamesEveryProblem) {
  EXPECT_EQ(run({"dump", "-D", images_.path(), "-o", "dump.log", "--lazy-pages", "extra"}), 1);
  EXPECT_THAT(log(), HasSubstr("option --tree: it is needed\n"));
  EXPECT_THAT(log(), HasSubstr("option --lazy-pages: "));
  EXPECT_THAT(log(), HasSubstr("extra: unexpected word\n"));
  EXPECT_FALSE(dumped_);
}

TEST_F(CriuProgramTest, AMissingImagesDirectoryIsToldOnStderr) {
  EXPECT_EQ(run({"dump", "-t", "1", "-D", dir_.path("absent"), "-o", "dump.log"}), 1);
  EXPECT_THAT(err(), HasSubstr("images directory " + dir_.path("absent") + ": "));
}

TEST_F(CriuProgramTest, TheCommandLineBeatsTheFilesAndItsOrderCounts) {
  files_.global = dir_.write("1", "root /global\nimages-dir /nonexistent\n");
  files_.user = dir_.write("2", "root /user\n");
  const std::string chosen = dir_.write("3", "root /chosen\n");
  ASSERT_EQ(run({"dump", "-t", "1", "-D", images_.path(), "-o", "dump.log"}), 0);
  EXPECT_EQ(dumped_->root, "/user");
  ASSERT_EQ(run({"dump", "-t", "1", "-D", images_.path(), "-o", "dump.log", "-r", "/typed"}), 0);
  EXPECT_EQ(dumped_->root, "/typed");
  ASSERT_EQ(run({"dump", "-t", "1", "-D", images_.path(), "-o", "dump.log", "--config", chosen}),
            0);
  EXPECT_EQ(dumped_->root, "/chosen");
  ASSERT_EQ(run({"dump", "-t", "1", "-D", images_.path(), "-o", "dump.log", "--no-default-config"}),
            0);
  EXPECT_EQ(dumped_->root, "");
}

TEST_F(CriuProgramTest, ABadDefaultFileStopsAWorkerBeforeItServes) {
  files_.global = dir_.write("1", "no-such-option\n");
  EXPECT_EQ(run({"swrk", "3"}), 1);
  EXPECT_THAT(err(), HasSubstr(dir_.path("1") + ":1: unknown option"));
}

TEST_F(CriuProgramTest, AWorkerNeedsOneDescriptor) {
  EXPECT_EQ(run({"swrk"}), 1);
  EXPECT_EQ(run({"swrk", "3", "4"}), 1);
  EXPECT_EQ(run({"swrk", "three"}), 1);
  EXPECT_THAT(err(), HasSubstr("\"three\" is not a descriptor number"));
}

TEST_F(CriuProgramTest, RestoreDetachedAsSiblingWithPidFile) {
  ASSERT_EQ(run({"restore", "-d", "-S", "-D", images_.path(), "-o", "dump.log", "--pidfile", "pid",
                 "--external", "veth[eth0]:veth7@br0", "--cgroup-root", "/x"}),
            0);
  EXPECT_TRUE(restored_->as_sibling);
  EXPECT_THAT(restored_->externals, ElementsAre("veth[eth0]:veth7@br0"));
  EXPECT_EQ(images_.read("pid"), "4711");
}

TEST_F(CriuProgramTest, AttachedRestoreWaitsForTheRootTask) {
  root_ = ::fork();
  if (root_ == 0) {
    ::usleep(50'000);
    ::_exit(7);
  }
  EXPECT_EQ(run({"restore", "-D", images_.path(), "-o", "dump.log"}), 0);
  EXPECT_EQ(::waitpid(root_, nullptr, WNOHANG), -1) << "it has been reaped";
}

TEST_F(CriuProgramTest, RestoreRefusesContradictions) {
  EXPECT_EQ(run({"restore", "-S", "-D", images_.path(), "-o", "dump.log"}), 1);
  EXPECT_THAT(log(), HasSubstr("option --restore-sibling: it needs --restore-detached"));
  EXPECT_EQ(run({"restore", "--exec-cmd", "-D", images_.path(), "-o", "dump.log"}), 1);
  EXPECT_THAT(log(), HasSubstr("option --exec-cmd: it needs a command"));
  EXPECT_EQ(
      run({"restore", "-d", "--exec-cmd", "-D", images_.path(), "-o", "dump.log", "--", "ls"}), 1);
  EXPECT_THAT(log(), HasSubstr("option --exec-cmd: it excludes --restore-detached"));
  EXPECT_EQ(run({"dump", "-t", "1", "--exec-cmd", "-D", images_.path(), "-o", "dump.log"}), 1);
  EXPECT_THAT(log(), HasSubstr("option --exec-cmd: it is for the command restore only"));
  EXPECT_FALSE(restored_);
}

TEST_F(CriuProgramTest, AFailureWithoutACauseStillHasALine) {
  fails_ = true;
  EXPECT_EQ(run({"restore", "-d", "-D", images_.path(), "-o", "dump.log"}), 1);
  EXPECT_THAT(log(), HasSubstr("Error ("));
}

TEST_F(CriuProgramTest, Statistics) {
  ASSERT_EQ(run({"dump", "-t", "1", "-D", images_.path(), "-o", "dump.log", "--display-stats"}), 0);
  EXPECT_THAT(out(), StartsWith("Displaying dump stats:\nFreezing time: 0 us\n"));
  ASSERT_EQ(run({"restore", "-d", "-D", images_.path(), "-o", "dump.log", "--display-stats"}), 0);
  EXPECT_THAT(out(), HasSubstr("Pages restored: 0 (0x0)\n"));
}

// ---- check ----

TEST_F(CriuProgramTest, CheckLooksGood) {
  EXPECT_EQ(run({"check", "-W", dir_.path(), "-o", "l"}), 0);
  EXPECT_EQ(out(), "Looks good.\n");
  EXPECT_EQ(run({"check", "--all", "-W", dir_.path(), "-o", "l"}), 0);
  EXPECT_EQ(run({"check", "--ms", "-W", dir_.path(), "-o", "l"}), 0);
}

TEST_F(CriuProgramTest, CheckOfExtrasLooksGoodBut) {
  engine_.has_feature = [](sys::Feature f) { return f != sys::Feature::kTimeNamespace; };
  EXPECT_EQ(run({"check", "-W", dir_.path(), "-o", "l"}), 0);
  EXPECT_EQ(run({"check", "--extra", "-W", dir_.path(), "-o", "l"}), 1);
  EXPECT_THAT(out(), StartsWith("Looks good but some kernel features are missing\n"));
  EXPECT_EQ(dir_.read("l"), "Warn: feature timens: this kernel does not have it\n");
}

TEST_F(CriuProgramTest, CheckWithoutWhatIsRequiredDoesNotLookGood) {
  EXPECT_EQ(run({"check", "--without", "openat2", "-W", dir_.path(), "-o", "l"}), 1);
  EXPECT_EQ(out(), "Does not look good.\n");
  EXPECT_THAT(dir_.read("l"), HasSubstr("feature openat2"));
}

TEST_F(CriuProgramTest, CheckByName) {
  EXPECT_EQ(run({"check", "--feature", "timens", "-W", dir_.path(), "-o", "l"}), 0);
  EXPECT_EQ(out(), "timens is supported\n");
  EXPECT_EQ(run({"check", "--feature", "mem_dirty_track", "-W", dir_.path(), "-o", "l"}), 0);
  EXPECT_EQ(out(), "mem_dirty_track is supported\n");
  EXPECT_EQ(run({"check", "--feature", "mem_dirty_track", "--without", "soft_dirty", "--without", "uffd_wp_async",
                 "-W", dir_.path(), "-o", "l"}),
            1);
  EXPECT_EQ(out(), "");
  EXPECT_EQ(run({"check", "--feature", "nosuch", "-W", dir_.path(), "-o", "l"}), 1);
  EXPECT_EQ(run({"check", "--feature", "list"}), 0);
  EXPECT_THAT(out(), HasSubstr("\nmem_dirty_track\n"));
}

}  // namespace
}  // namespace dormouse::shim
