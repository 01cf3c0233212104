#include "parasite/host/held_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <string>

#include "kernel/file.h"
#include "kernel/proc/maps.h"
#include "parasite/host/helper_thread.h"

namespace dormouse::parasite {
namespace {

struct Shared {
  std::atomic<std::uint64_t> steps[4];
  std::atomic<std::uint32_t> signals, wrong, sleeps;
};

// Computes with integer and floating point registers and checks itself.
void compute(Shared* shared, int which) {
  for (std::uint64_t i = 1;; ++i) {
    double sum = 0;
    for (int k = 1; k <= 200; ++k) sum += 1.0 / k;
    if (std::fabs(sum - 5.878030948121444) > 1e-9) ++shared->wrong;
    shared->steps[which] = i;
  }
}

// Sleeps with a relative timeout: only the kernel's restart block knows how much is left.
void* sleeper(void* argument) {
  auto* shared = static_cast<Shared*>(argument);
  sigset_t usr1;  // a handler would end the sleep, rightly
  ::sigemptyset(&usr1);
  ::sigaddset(&usr1, SIGUSR1);
  ::pthread_sigmask(SIG_BLOCK, &usr1, nullptr);
  for (;;) {
    timespec time{0, 20'000'000};
    if (::nanosleep(&time, nullptr) != 0) ++shared->wrong;
    ++shared->sleeps;
  }
}
void* worker(void* argument) {
  compute(static_cast<Shared*>(argument), 1);
  return nullptr;
}

Shared* g_shared = nullptr;

class Victim {
 public:
  Victim() {
    g_shared = static_cast<Shared*>(
        ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::signal(SIGUSR1, [](int) { ++g_shared->signals; });
      ::signal(SIGSEGV, [](int) { ++g_shared->signals; });
      pthread_t thread;
      ::pthread_create(&thread, nullptr, worker, g_shared);
      ::pthread_create(&thread, nullptr, sleeper, g_shared);
      compute(g_shared, 0);
    }
    wait_progress();
  }
  ~Victim() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    ::munmap(g_shared, 4096);
  }
  pid_t pid() const { return pid_; }
  std::string proc(const std::string& file) const {
    return sys::read_file(AT_FDCWD, "/proc/" + std::to_string(pid_) + "/" + file).value_or("");
  }
  std::vector<pid_t> threads() const {
    std::vector<pid_t> tids;
    const auto entries = sys::list_directory(AT_FDCWD, "/proc/" + std::to_string(pid_) + "/task").value();
    for (const auto& entry : entries) tids.push_back(std::stoi(entry.name));
    return tids;
  }
  // All three threads get further and nothing went wrong.
  bool wait_progress() const {
    const std::uint64_t before[] = {g_shared->steps[0], g_shared->steps[1], g_shared->sleeps};
    for (int i = 0; i < 2000; ++i) {
      if (g_shared->steps[0] > before[0] + 2 && g_shared->steps[1] > before[1] + 2 &&
          g_shared->sleeps > before[2] + 2)
        return g_shared->wrong == 0;
      ::usleep(1000);
    }
    return false;
  }

 private:
  pid_t pid_;
};

class HeldProcessTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  }
  static std::string maps_without_stack_growth(const Victim& victim) { return victim.proc("maps"); }

  // Stops the victim and takes all its threads into the interpreter.
  static Result<> hold(HeldProcess& held, const Victim& victim) {
    for (pid_t tid : victim.threads()) TRY(held.seize(tid));
    TRY(held.wait_stopped(within(std::chrono::seconds(5))));
    TRY(held.capture_contexts());
    GadgetFinder finder;
    const std::string directory = "/proc/" + std::to_string(victim.pid());
    const Fd proc = TRY(sys::openat(AT_FDCWD, directory, O_PATH | O_DIRECTORY));
    const auto maps = TRY(proc::parse_maps(victim.proc("maps")));
    return held.enter(finder, proc.get(), maps);
  }
  NullLog log_;
};

TEST_F(HeldProcessTest, RunsProgramsInEveryThreadAndLeavesNoTrace) {
  Victim victim;
  const std::string maps_before = victim.proc("maps");
  auto keeper = Keeper::create().value();
  for (int round = 0; round < 3; ++round) {
    HeldProcess held(*keeper, log_, victim.pid(), "victim");
    const Result<> entered = hold(held, victim);
    ASSERT_TRUE(entered) << entered.error().message();
    ASSERT_EQ(held.threads().size(), 3u);
    Program ask;
    const OpRef tid = ask.call("who am I", SYS_gettid, {});
    Batch batch(*keeper);
    for (auto& thread : held.threads()) ASSERT_TRUE(batch.add(held, *thread, ask));
    const Result<> ran = batch.run();
    ASSERT_TRUE(ran) << ran.error().message();
    for (std::size_t i = 0; i < held.threads().size(); ++i)
      EXPECT_EQ(batch.placed(i).result(tid), held.threads()[i]->tid());
    ::kill(victim.pid(), SIGUSR1);  // arrives while held: delivered afterwards, not lost
    const Result<> released = held.release();
    ASSERT_TRUE(released) << released.error().message();
    EXPECT_EQ(victim.proc("maps"), maps_before);
    EXPECT_NE(victim.proc("status").find("TracerPid:\t0"), std::string::npos);
    EXPECT_TRUE(victim.wait_progress());
    EXPECT_EQ(g_shared->signals, static_cast<std::uint32_t>(round + 1));
  }
}

TEST_F(HeldProcessTest, AFailingOperationIsNamedAndTheTaskGoesOn) {
  Victim victim;
  auto keeper = Keeper::create().value();
  HeldProcess held(*keeper, log_, victim.pid(), "pid 7 (victim)");
  ASSERT_TRUE(hold(held, victim));
  Program program;
  program.call("", SYS_getpid, {});
  program.call("close what is not open", SYS_close, {999});
  Batch batch(*keeper);
  ASSERT_TRUE(batch.add(held, held.leader(), program));
  const Result<> ran = batch.run();
  ASSERT_FALSE(ran);
  EXPECT_TRUE(ran.error().is_kernel(EBADF));
  EXPECT_EQ(ran.error().message(),
            "pid 7 (victim): close what is not open (close): Bad file descriptor (EBADF)");
  ASSERT_TRUE(held.release());
  EXPECT_TRUE(victim.wait_progress());
}

TEST_F(HeldProcessTest, ATaskThatDiesWhileHeldIsAnOrdinaryResult) {
  Victim victim;
  auto keeper = Keeper::create().value();
  HeldProcess held(*keeper, log_, victim.pid(), "victim");
  ASSERT_TRUE(hold(held, victim));
  Program sleep;
  const timespec long_time{100, 0};
  sleep.call("", SYS_nanosleep, {sleep.value(long_time), 0});
  Batch batch(*keeper);
  ASSERT_TRUE(batch.add(held, held.leader(), sleep));
  if (::fork() == 0) {
    ::usleep(20000);
    ::kill(victim.pid(), SIGKILL);
    ::_exit(0);
  }
  const Result<> ran = batch.run();
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().kind(), Error::Kind::kTaskDied);
  EXPECT_TRUE(held.release());
}

// Its own handler for such a signal is neither called nor forgotten.
TEST_F(HeldProcessTest, AFaultIsAnErrorAtOnceAndDoesNoHarm) {
  Victim victim;
  const std::string maps_before = victim.proc("maps");
  auto keeper = Keeper::create().value();
  HeldProcess held(*keeper, log_, victim.pid(), "victim");
  ASSERT_TRUE(hold(held, victim));
  Program bad, good;
  bad.call("", SYS_getpid, {});
  bad.perform(OpCode::kStore, "store into nowhere", {0x10, 1});
  const OpRef tid = good.call("", SYS_gettid, {});
  for (auto& thread : held.threads()) {
    Batch batch(*keeper);
    ASSERT_TRUE(batch.add(held, *thread, bad));
    const Result<> ran = batch.run();
    ASSERT_FALSE(ran);
    EXPECT_EQ(ran.error().message(), "victim: store into nowhere (store): SIGSEGV at 0x10: Bad address (EFAULT)");
    Batch again(*keeper);
    ASSERT_TRUE(again.add(held, *thread, good));
    ASSERT_TRUE(again.run());
    EXPECT_EQ(again.placed(0).result(tid), thread->tid());
  }
  ASSERT_TRUE(held.release());
  EXPECT_EQ(victim.proc("maps"), maps_before);
  EXPECT_TRUE(victim.wait_progress());
  EXPECT_EQ(g_shared->signals, 0u);
  ::kill(victim.pid(), SIGSEGV);
  EXPECT_TRUE(victim.wait_progress());
  EXPECT_EQ(g_shared->signals, 1u);
}

TEST_F(HeldProcessTest, AFaultOfAHelperThreadIsOneToo) {
  Victim victim;
  auto keeper = Keeper::create().value();
  HeldProcess held(*keeper, log_, victim.pid(), "victim");
  ASSERT_TRUE(hold(held, victim));
  {
    auto helper = HelperThread::start(*keeper, {held.area(), held.spare_slot(), 0, held.leader().tid(), "victim", &held});
    ASSERT_TRUE(helper);
    Program bad;
    bad.perform(OpCode::kZeroPages, "look at nothing", {0x1000, 4096});
    Batch batch(*keeper);
    ASSERT_TRUE(helper->add_to(batch, bad));
    const Result<> ran = batch.run();
    ASSERT_FALSE(ran);
    EXPECT_TRUE(ran.error().is_kernel(EFAULT)) << ran.error().message();
    EXPECT_TRUE(helper->dismiss());
  }
  EXPECT_EQ(victim.threads().size(), 3u);
  ASSERT_TRUE(held.release());
  EXPECT_TRUE(victim.wait_progress());
  ::kill(victim.pid(), SIGSEGV);
  EXPECT_TRUE(victim.wait_progress());
  EXPECT_EQ(g_shared->signals, 1u);
}

// The heart of the matter: an engine that is killed at any instant.
TEST_F(HeldProcessTest, TheVictimSurvivesAnEngineKilledAtAnyInstant) {
  Victim victim;
  const std::string maps_before = victim.proc("maps");
  int killed_inside = 0;
  for (int delay_us = 0; delay_us < 4000; delay_us += 67) {
    int ready[2];
    ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    const pid_t engine = ::fork();
    if (engine == 0) {
      auto keeper = Keeper::create().value();
      (void)!::write(ready[1], "x", 1);
      for (;;) {
        HeldProcess held(*keeper, log_, victim.pid(), "victim");
        if (!hold(held, victim)) ::_exit(1);
        Program ask;
        ask.call("", SYS_getpid, {});
        Batch batch(*keeper);
        for (auto& thread : held.threads()) (void)batch.add(held, *thread, ask);
        if (!batch.run() || !held.release()) ::_exit(1);
      }
    }
    char byte;
    (void)!::read(ready[0], &byte, 1);
    ::close(ready[0]);
    ::close(ready[1]);
    ::usleep(static_cast<useconds_t>(delay_us));
    ::kill(engine, SIGKILL);
    int status = 0;
    ::waitpid(engine, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the engine ended by itself";
    ++killed_inside;
    ASSERT_TRUE(victim.wait_progress()) << "killed after " << delay_us << " µs";
    ASSERT_EQ(victim.proc("maps"), maps_before) << "killed after " << delay_us << " µs";
  }
  EXPECT_GT(killed_inside, 50);
}

}  // namespace
}  // namespace dormouse::parasite
