// The state of a real process: saved, given to another process, saved again, compared. Needs root.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>

#include "base/defer.h"
#include "engine/task/task_dump.h"
#include "engine/task/task_restore.h"
#include "images/directory.h"
#include "kernel/file.h"
#include "kernel/proc/directory.h"
#include "kernel/process.h"
#include "parasite/host/held_process.h"

extern "C" {
extern const ptrdiff_t __rseq_offset;
extern const unsigned __rseq_size;
}

namespace dormouse::engine {
namespace {

constexpr auto kPatience = std::chrono::seconds(10);

// --- what victims do ----------------------------------------------------------------------------

// Nobody checks the result of every single call when the whole is compared afterwards; but a victim whose
// preparation fails proves nothing.
#define MUST(call)                                             \
  do {                                                         \
    if ((call) < 0) {                                          \
      ::dprintf(2, "victim: %s: %s\n", #call, ::strerror(errno)); \
      ::_exit(1);                                              \
    }                                                          \
  } while (0)

alignas(16) char g_alternate_stack[16384];
int g_cleared_tid[2];
struct {
  void* list;
  long offset;
  void* pending;
} g_robust = {&g_robust, 0, nullptr};

void block_all_signals() {
  sigset_t all;
  ::sigfillset(&all);
  MUST(::sigprocmask(SIG_SETMASK, &all, nullptr));
}

// Both threads do as `prepare` says, first the second and then the leader, and then nothing any more.
using Prepare = std::function<void(int number)>;
std::atomic<bool> g_second_is_ready = false;
void* second_thread(void* prepare) {
  (*static_cast<Prepare*>(prepare))(1);
  g_second_is_ready = true;
  g_second_is_ready.notify_all();
  for (;;) ::pause();
}

class Victim {
 public:
  explicit Victim(Prepare prepare, bool with_thread = true) {
    int ready[2];
    EXPECT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      block_all_signals();
      pthread_t thread;
      if (with_thread) {
        if (::pthread_create(&thread, nullptr, second_thread, &prepare) != 0) ::_exit(1);
        g_second_is_ready.wait(false);
      }
      prepare(0);
      (void)!::write(ready[1], "x", 1);
      for (;;) ::pause();
    }
    ::close(ready[1]);
    char byte = 0;
    alive_ = ::read(ready[0], &byte, 1) == 1;
    ::close(ready[0]);
  }
  ~Victim() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  bool alive() const { return alive_; }

 private:
  pid_t pid_ = 0;
  bool alive_ = false;
};

// --- the engine's side --------------------------------------------------------------------------

struct Saved {
  pb::core_entry leader;
  pb::core_entry thread;
  std::optional<pb::seccomp_entry> seccomp;
  int dumpable = -1;
  bool thp_disabled = false;
};

class TaskStateTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    keeper_ = parasite::Keeper::create().value();
    options_.log = &log_;
  }

  static Task task_of(pid_t pid) {
    Task task;
    task.pid = task.ns_pid = pid;
    task.comm = "victim";
    task.proc = sys::openat(AT_FDCWD, format("/proc/{}", pid), O_PATH | O_DIRECTORY).value();
    const auto proc = proc::ProcDir::open(pid).value();
    const auto threads = proc.threads().value();
    for (const pid_t tid : threads) task.threads.push_back({tid, tid});
    return task;
  }
  static Result<> stop(parasite::HeldProcess& held, const Task& task) {
    for (const Thread& thread : task.threads) TRY(held.seize(thread.tid));
    TRY(held.wait_stopped(parasite::within(kPatience)));
    return held.capture_contexts();
  }
  static Result<> enter(parasite::HeldProcess& held, const Task& task) {
    parasite::GadgetFinder finder;
    const std::string text = TRY(sys::read_file(task.proc.get(), "maps"));
    const auto maps = TRY(proc::parse_maps(text));
    return held.enter(finder, task.proc.get(), maps);
  }

  Result<Saved> save(pid_t pid) {
    char name[] = "/tmp/task_state_XXXXXX";
    if (::mkdtemp(name) == nullptr) return fail(Error::kernel("mkdtemp", errno));
    const Defer remove([&] { ::rmdir(name); });
    const Fd directory = TRY(sys::openat(AT_FDCWD, name, O_RDONLY | O_DIRECTORY));
    auto out = TRY(images::OutputDirectory::open(directory.get()));
    const Defer discard([&] { out.discard(); });
    const Task task = task_of(pid);
    const Tree tree;
    DumpContext context{options_, log_, out, tree, blockers_};
    SeccompTable filters;
    parasite::HeldProcess held(*keeper_, log_, pid, "victim");
    TRY(stop(held, task));
    TaskDump dump(context, task, held, filters);
    const auto proc = TRY(proc::ProcDir::open(pid));
    for (std::size_t i = 0; i < dump.thread_count(); ++i)
      TRY(dump.read_files(i, TRY(proc.thread(held.threads()[i]->tid()))));
    TRY(dump.read_traced());
    TRY(enter(held, task));
    dump.ask();
    parasite::Batch batch(*keeper_);
    for (std::size_t i = 0; i < held.threads().size(); ++i)
      TRY(batch.add(held, *held.threads()[i], dump.program(i)));
    TRY(batch.run());
    for (std::size_t i = 0; i < held.threads().size(); ++i) TRY(dump.take(i, batch.placed(i)));
    dump.set_cgroup_set(0, 3);
    TRY(dump.begin_write());
    for (std::size_t i = 0; i < dump.thread_count(); ++i) TRY(dump.write_thread(i));
    TRY(dump.write_process());
    TRY(filters.write(out));
    TRY(held.release());

    Saved saved;
    saved.dumpable = dump.dumpable();
    saved.thp_disabled = dump.thp_disabled();
    const auto in = TRY(images::InputDirectory::open(directory.get()));
    TRY(in.read(images::kCore, static_cast<std::uint64_t>(pid), saved.leader));
    if (task.threads.size() > 1)
      TRY(in.read(images::kCore, static_cast<std::uint64_t>(task.threads[1].tid), saved.thread));
    TRY(in.read(images::kSeccomp, std::nullopt, saved.seccomp.emplace()));
    return saved;
  }

  // Gives the state to a process with as many threads.
  Result<> give(const Saved& saved, pid_t pid) {
    char name[] = "/tmp/task_state_XXXXXX";
    if (::mkdtemp(name) == nullptr) return fail(Error::kernel("mkdtemp", errno));
    const Defer remove([&] { ::rmdir(name); });
    const Fd directory = TRY(sys::openat(AT_FDCWD, name, O_RDONLY | O_DIRECTORY));
    const auto in = TRY(images::InputDirectory::open(directory.get()));
    Image image;
    image.seccomp = saved.seccomp;
    RestoreOptions options;
    options.log = &log_;
    RestoreContext context{options, log_, in, image};
    ImageTask imaged;
    imaged.tree.set_pid(static_cast<std::uint32_t>(pid));
    imaged.core = saved.leader;
    imaged.mm.emplace().set_dumpable(saved.dumpable);
    imaged.mm->set_thp_disabled(saved.thp_disabled);

    const Task task = task_of(pid);
    parasite::HeldProcess held(*keeper_, log_, pid, "puppet");
    TRY(stop(held, task));
    TRY(enter(held, task));
    parasite::Program process;
    const Inherited inherited = TRY(Inherited::of_engine());
    TRY(append_process_state(process, context, imaged));
    parasite::Batch first(*keeper_);
    TRY(first.add(held, held.leader(), process));
    TRY(first.run());
    held.area().rewind();
    std::vector<parasite::Program> queues(held.threads().size()), programs(held.threads().size());
    parasite::Batch sending(*keeper_);
    for (std::size_t i = 0; i < queues.size(); ++i) {
      TRY(append_queued_signals(queues[i], imaged, i == 0 ? saved.leader : saved.thread, {}));
      TRY(sending.add(held, *held.threads()[i], queues[i]));
    }
    TRY(sending.run());
    TRY(apply_from_outside(context, imaged, pid, inherited));
    held.area().rewind();
    parasite::Batch second(*keeper_);
    for (std::size_t i = 0; i < programs.size(); ++i) {
      TRY(append_thread_state(programs[i], context, imaged, i == 0 ? saved.leader : saved.thread, inherited, {}));
      TRY(second.add(held, *held.threads()[i], programs[i]));
    }
    TRY(second.run());
    return held.release();
  }

  NullLog log_;
  CheckpointOptions options_;
  Blockers blockers_;
  std::unique_ptr<parasite::Keeper> keeper_;
};

// A fork has its parent's registration; what is restored has none.
void forget_rseq() {
  auto* area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
  for (const unsigned size : {32u, __rseq_size})
    if (::syscall(SYS_rseq, area, size, 1, 0x53053053) == 0) return;
}

// What cannot be compared, or need not: where the code was, flags of the kernel, the running clocks.
void forget_incomparable(pb::core_entry& core) {
  core.mutable_thread_info()->clear_gpregs();
  core.mutable_thread_info()->clear_fpregs();
  if (!core.has_tc()) return;
  core.mutable_tc()->clear_flags();
  const auto forget = [](pb::itimer_entry* timer) { timer->set_vusec(0), timer->set_vsec(timer->vsec() / 100); };
  forget(core.mutable_tc()->mutable_timers()->mutable_real());
  forget(core.mutable_tc()->mutable_timers()->mutable_virt());
  forget(core.mutable_tc()->mutable_timers()->mutable_prof());
  for (auto& timer : *core.mutable_tc()->mutable_timers()->mutable_posix()) {
    timer.set_vsec(timer.vsec() / 100);
    timer.set_vnsec(0);
  }
}

// What was saved of one process and then of another that got its state. The ids of the one stand for
// those of the other.
void expect_equal(Saved one, Saved other) {
  for (Saved* saved : {&one, &other}) {
    forget_incomparable(saved->leader);
    forget_incomparable(saved->thread);
  }
  const auto bytes = [](const google::protobuf::MessageLite& message) { return message.SerializePartialAsString(); };
  const auto& a = one.leader;
  const auto& b = other.leader;
  EXPECT_EQ(bytes(a.thread_core().creds()), bytes(b.thread_core().creds()));
  EXPECT_EQ(bytes(a.tc().timers()), bytes(b.tc().timers()));
  EXPECT_EQ(bytes(a.tc().rlimits()), bytes(b.tc().rlimits()));
  EXPECT_EQ(bytes(a.tc().signals_s()), bytes(b.tc().signals_s()));
  EXPECT_EQ(bytes(a.thread_core()), bytes(b.thread_core()));
  EXPECT_EQ(bytes(a.thread_info()), bytes(b.thread_info()));
  EXPECT_EQ(bytes(a.tc()), bytes(b.tc()));
  EXPECT_EQ(bytes(one.thread.thread_core()), bytes(other.thread.thread_core()));
  EXPECT_EQ(bytes(one.thread.thread_info()), bytes(other.thread.thread_info()));
  EXPECT_EQ(bytes(*one.seccomp), bytes(*other.seccomp));
  EXPECT_EQ(one.dumpable, other.dumpable);
  EXPECT_EQ(one.thp_disabled, other.thp_disabled);
}

// --- tests --------------------------------------------------------------------------------------

void handler(int, siginfo_t*, void*) {}

void prepare_signals(int number) {
  if (number == 1) {
    sigval value{};
    value.sival_int = 4711;
    siginfo_t info{};
    info.si_signo = SIGRTMIN + 5;
    info.si_code = SI_QUEUE;
    info.si_value = value;
    MUST(::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), ::gettid(), SIGRTMIN + 5, &info));
    stack_t stack{};
    stack.ss_sp = g_alternate_stack;
    stack.ss_size = sizeof g_alternate_stack;
    MUST(::sigaltstack(&stack, nullptr));
    return;
  }
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  ::sigaddset(&action.sa_mask, SIGHUP);
  MUST(::sigaction(SIGUSR1, &action, nullptr));
  action.sa_flags = SA_RESETHAND | SA_ONSTACK;
  MUST(::sigaction(SIGRTMAX, &action, nullptr));
  if (::signal(SIGPIPE, SIG_IGN) == SIG_ERR) ::_exit(1);
  sigval value{};
  for (value.sival_int = 1; value.sival_int < 4; ++value.sival_int)
    MUST(::sigqueue(::getpid(), SIGRTMIN + 1, value));
  MUST(::kill(::getpid(), SIGUSR1));
  // Claims to come from the kernel: nobody but the thread itself may send such a thing.
  siginfo_t info{};
  info.si_signo = SIGSEGV;
  info.si_code = SEGV_ACCERR;
  info.si_addr = &info;
  MUST(::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), ::gettid(), SIGSEGV, &info));
}

TEST_F(TaskStateTest, Signals) {
  Victim origin(prepare_signals);
  Victim puppet([](int) { forget_rseq(); });
  ASSERT_TRUE(origin.alive() && puppet.alive());
  const auto saved = save(origin.pid());
  ASSERT_TRUE(saved) << saved.error().message();
  EXPECT_EQ(saved->leader.tc().sigactions_size(), 62);
  EXPECT_EQ(saved->leader.tc().sigactions(SIGPIPE - 2).sigaction(), 1u);  // without SIGKILL
  EXPECT_EQ(saved->leader.tc().signals_s().signals_size(), 4);
  EXPECT_EQ(saved->leader.thread_core().signals_p().signals_size(), 1);
  EXPECT_EQ(saved->thread.thread_core().signals_p().signals_size(), 1);
  EXPECT_EQ(saved->thread.thread_core().sas().ss_sp(), reinterpret_cast<std::uint64_t>(g_alternate_stack));
  EXPECT_EQ(saved->leader.thread_core().cg_set(), 3u);
  const Result<> given = give(*saved, puppet.pid());
  ASSERT_TRUE(given) << given.error().message();
  const auto again = save(puppet.pid());
  ASSERT_TRUE(again) << again.error().message();
  expect_equal(*saved, *again);
}

void prepare_timers(int number) {
  static std::atomic<pid_t> other = 0;
  if (number == 1) {
    other = ::gettid();
    return;
  }
  const itimerval real{{7, 1000}, {1050, 0}};
  MUST(::setitimer(ITIMER_REAL, &real, nullptr));
  const itimerval virtual_time{{0, 0}, {550, 0}};
  MUST(::setitimer(ITIMER_VIRTUAL, &virtual_time, nullptr));
  timer_t timers[4];
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGRTMIN + 2;
  event.sigev_value.sival_ptr = &event;
  event._sigev_un._tid = other;
  MUST(::timer_create(CLOCK_MONOTONIC, nullptr, &timers[0]));
  MUST(::timer_create(CLOCK_REALTIME, nullptr, &timers[1]));
  MUST(::timer_create(CLOCK_MONOTONIC, &event, &timers[2]));
  MUST(::timer_create(CLOCK_PROCESS_CPUTIME_ID, nullptr, &timers[3]));
  MUST(::timer_delete(timers[0]));  // the ids have a hole
  const itimerspec soon{{0, 0}, {2050, 0}};
  MUST(::timer_settime(timers[2], 0, &soon, nullptr));
  const itimerspec often{{3, 5}, {350, 0}};
  MUST(::timer_settime(timers[3], 0, &often, nullptr));
}

TEST_F(TaskStateTest, Timers) {
  Victim origin(prepare_timers);
  Victim puppet([](int) { forget_rseq(); });
  ASSERT_TRUE(origin.alive() && puppet.alive());
  auto saved = save(origin.pid());
  ASSERT_TRUE(saved) << saved.error().message();
  const pb::task_timers_entry& timers = saved->leader.tc().timers();
  EXPECT_EQ(timers.real().isec(), 7u);
  EXPECT_NEAR(static_cast<double>(timers.real().vsec()), 1049, 2);
  ASSERT_EQ(timers.posix_size(), 3);
  EXPECT_EQ(timers.posix(0).it_id(), 1u);
  EXPECT_NEAR(static_cast<double>(timers.posix(1).vsec()), 2049, 2);
  const pid_t thread = sys::list_directory(AT_FDCWD, format("/proc/{}/task", origin.pid())).value().size() > 1
                           ? task_of(origin.pid()).threads[1].tid : 0;
  EXPECT_EQ(timers.posix(1).notify_thread_id(), thread);
  // The puppet's thread is not restored with the same number here.
  saved->leader.mutable_tc()->mutable_timers()->mutable_posix(1)->set_notify_thread_id(
      task_of(puppet.pid()).threads[1].tid);
  const Result<> given = give(*saved, puppet.pid());
  ASSERT_TRUE(given) << given.error().message();
  const auto again = save(puppet.pid());
  ASSERT_TRUE(again) << again.error().message();
  expect_equal(*saved, *again);
}

void prepare_settings(int number) {
  MUST(::personality(ADDR_NO_RANDOMIZE));
  MUST(static_cast<int>(::syscall(SYS_set_tid_address, &g_cleared_tid[number])));
  MUST(::syscall(SYS_set_robust_list, &g_robust, sizeof g_robust));
  MUST(::prctl(PR_SET_NAME, number == 0 ? "leading role" : "a\nworker"));
  MUST(::prctl(PR_SET_PDEATHSIG, number == 0 ? SIGKILL : SIGHUP));
  if (number == 1) {
    const sched_param priority{7};
    MUST(::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &priority));
    return;
  }
  MUST(::setpriority(PRIO_PROCESS, 0, 5));
  const sched_param none{0};
  MUST(::sched_setscheduler(0, SCHED_BATCH, &none));
  MUST(::prctl(PR_SET_CHILD_SUBREAPER, 1));
  MUST(::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
  MUST(::prctl(PR_SET_DUMPABLE, 0));
  MUST(::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
  MUST(::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0));
  const rlimit files{200, 300}, core{0, 4096};
  MUST(::setrlimit(RLIMIT_NOFILE, &files));
  MUST(::setrlimit(RLIMIT_CORE, &core));
  const int adjustment = ::open("/proc/self/oom_score_adj", O_WRONLY);
  MUST(adjustment);
  MUST(static_cast<int>(::write(adjustment, "321", 3)));
}

TEST_F(TaskStateTest, Settings) {
  Victim origin(prepare_settings);
  Victim puppet([](int) { forget_rseq(); });
  ASSERT_TRUE(origin.alive() && puppet.alive());
  const auto saved = save(origin.pid());
  ASSERT_TRUE(saved) << saved.error().message();
  EXPECT_EQ(saved->leader.tc().personality(), static_cast<std::uint32_t>(ADDR_NO_RANDOMIZE));
  EXPECT_EQ(saved->leader.tc().comm(), "leading role");
  EXPECT_EQ(saved->thread.thread_core().comm(), "a\nworker");
  EXPECT_EQ(saved->leader.tc().oom_score_adj(), 321);
  EXPECT_EQ(saved->leader.tc().rlimits().rlimits(RLIMIT_NOFILE).cur(), 200u);
  EXPECT_EQ(saved->leader.tc().rlimits().rlimits(RLIMIT_CORE).max(), 4096u);
  EXPECT_EQ(saved->leader.thread_core().sched_policy(), static_cast<std::uint32_t>(SCHED_BATCH));
  EXPECT_EQ(saved->leader.thread_core().sched_nice(), 5);
  EXPECT_EQ(saved->thread.thread_core().sched_policy(), SCHED_FIFO | 0x40000000u);
  EXPECT_EQ(saved->thread.thread_core().sched_prio(), 7u);
  EXPECT_EQ(saved->thread.thread_core().pdeath_sig(), static_cast<std::uint32_t>(SIGHUP));
  EXPECT_EQ(saved->thread.thread_info().clear_tid_addr(), reinterpret_cast<std::uint64_t>(&g_cleared_tid[1]));
  EXPECT_EQ(saved->leader.thread_core().futex_rla(), reinterpret_cast<std::uint64_t>(&g_robust));
  EXPECT_EQ(saved->leader.tc().membarrier_registration_mask(), 0x14u);
  EXPECT_EQ(saved->dumpable, 0);
  EXPECT_TRUE(saved->thp_disabled);
  EXPECT_TRUE(saved->leader.tc().child_subreaper());
  EXPECT_NE(saved->leader.thread_core().rseq_entry().rseq_abi_pointer(), 0u);
  EXPECT_EQ(saved->leader.thread_core().rseq_entry().signature(), 0x53053053u);
  const Result<> given = give(*saved, puppet.pid());
  ASSERT_TRUE(given) << given.error().message();
  const auto again = save(puppet.pid());
  ASSERT_TRUE(again) << again.error().message();
  expect_equal(*saved, *again);
}

void set_capabilities(std::initializer_list<int> permitted, std::initializer_list<int> inheritable) {
  auto* header = new __user_cap_header_struct{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  for (const int capability : permitted) {
    data[capability / 32].permitted |= 1u << (capability % 32);
    data[capability / 32].effective |= 1u << (capability % 32);
  }
  for (const int capability : inheritable) data[capability / 32].inheritable |= 1u << (capability % 32);
  MUST(::syscall(SYS_capset, header, data));
  delete header;
}

void prepare_credentials(int number) {
  const gid_t groups[] = {5, 70000, 6};
  MUST(::syscall(SYS_setgroups, 3 - number, groups));
  MUST(::prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS));
  MUST(::syscall(SYS_setresgid, 10, 11, 12));
  MUST(::syscall(SYS_setresuid, 1000, 1001, 1002));
  ::syscall(SYS_setfsuid, 1000);
  if (number == 1) {
    // Nothing left, not even the right to change anything.
    MUST(::prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN));
    MUST(::prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE));
    set_capabilities({}, {});
    MUST(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    return;
  }
  set_capabilities({CAP_NET_BIND_SERVICE, CAP_SETPCAP}, {CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT});
  MUST(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0));
  MUST(::prctl(PR_CAPBSET_DROP, CAP_SYS_CHROOT));  // stays inheritable
  MUST(::prctl(PR_CAPBSET_DROP, CAP_MKNOD));
  MUST(::prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NO_CAP_AMBIENT_RAISE));
  set_capabilities({CAP_NET_BIND_SERVICE}, {CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT});
}

TEST_F(TaskStateTest, Credentials) {
  Victim origin(prepare_credentials);
  Victim puppet([](int) { forget_rseq(); });
  ASSERT_TRUE(origin.alive() && puppet.alive());
  const auto saved = save(origin.pid());
  ASSERT_TRUE(saved) << saved.error().message();
  const pb::creds_entry& creds = saved->leader.thread_core().creds();
  EXPECT_EQ(creds.euid(), 1001u);
  EXPECT_EQ(creds.fsuid(), 1000u);
  EXPECT_EQ(creds.fsgid(), 11u);
  ASSERT_EQ(creds.groups_size(), 3);
  EXPECT_EQ(creds.groups(2), 70000u);  // the kernel sorts them
  EXPECT_EQ(creds.cap_amb(0), 1u << CAP_NET_BIND_SERVICE);
  EXPECT_FALSE(creds.has_no_new_privs());
  EXPECT_EQ(saved->thread.thread_core().creds().no_new_privs(), 1u);
  EXPECT_EQ(saved->thread.thread_core().creds().cap_prm(0), 0u);
  const Result<> given = give(*saved, puppet.pid());
  ASSERT_TRUE(given) << given.error().message();
  const auto again = save(puppet.pid());
  ASSERT_TRUE(again) << again.error().message();
  expect_equal(*saved, *again);
}

// Answers one system call with an error of choice, allows all others.
void install_filter(int call, int error, unsigned flags) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{4, code};
  MUST(static_cast<int>(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program)));
}

TEST_F(TaskStateTest, SeccompFiltersOfAllThreads) {
  Victim origin([](int number) {
    if (number == 1) return;
    // The second filter would forbid installing the first: only the right order works.
    install_filter(SYS_getppid, 11, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG);
    install_filter(SYS_seccomp, 22, SECCOMP_FILTER_FLAG_TSYNC);
    MUST(::syscall(SYS_setresuid, 1000, 1000, 1000));  // without CAP_SYS_ADMIN and no_new_privs
  });
  Victim puppet([](int) { forget_rseq(); });
  ASSERT_TRUE(origin.alive() && puppet.alive());
  const auto saved = save(origin.pid());
  ASSERT_TRUE(saved) << saved.error().message();
  ASSERT_EQ(saved->seccomp->seccomp_filters_size(), 2);
  const pb::seccomp_filter& oldest =
      saved->seccomp->seccomp_filters(static_cast<int>(saved->leader.thread_core().seccomp_filter()));
  ASSERT_EQ(oldest.filter().size(), 4 * sizeof(sock_filter));
  EXPECT_EQ(reinterpret_cast<const sock_filter*>(oldest.filter().data())[1].k, static_cast<std::uint32_t>(SYS_getppid));
  EXPECT_EQ(oldest.flags(), SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_TSYNC);
  EXPECT_TRUE(oldest.has_prev());
  EXPECT_FALSE(saved->thread.thread_core().has_seccomp_mode());
  const Result<> given = give(*saved, puppet.pid());
  ASSERT_TRUE(given) << given.error().message();
  const auto again = save(puppet.pid());
  ASSERT_TRUE(again) << again.error().message();
  expect_equal(*saved, *again);
}

TEST_F(TaskStateTest, SeccompFiltersOfOneThread) {
  Victim origin([](int number) {
    if (number == 1) install_filter(SYS_getppid, 33, 0);
  });
  Victim puppet([](int) { forget_rseq(); });
  ASSERT_TRUE(origin.alive() && puppet.alive());
  const auto saved = save(origin.pid());
  ASSERT_TRUE(saved) << saved.error().message();
  EXPECT_FALSE(saved->leader.thread_core().has_seccomp_mode());
  EXPECT_EQ(saved->thread.thread_core().seccomp_mode(), pb::filter);
  ASSERT_EQ(saved->seccomp->seccomp_filters_size(), 1);
  EXPECT_EQ(saved->seccomp->seccomp_filters(0).flags(), 0u);
  const Result<> given = give(*saved, puppet.pid());
  ASSERT_TRUE(given) << given.error().message();
  const auto again = save(puppet.pid());
  ASSERT_TRUE(again) << again.error().message();
  expect_equal(*saved, *again);
}

TEST_F(TaskStateTest, AHardLimitThatCannotBeHadIsNamed) {
  if (::prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE) == 1) GTEST_SKIP() << "this machine may raise limits";
  Victim puppet([](int) {
    const rlimit low{10, 20};
    MUST(::setrlimit(RLIMIT_LOCKS, &low));
  }, false);
  Victim origin([](int) {}, false);
  ASSERT_TRUE(origin.alive() && puppet.alive());
  const auto saved = save(origin.pid());
  ASSERT_TRUE(saved) << saved.error().message();
  const Result<> given = give(*saved, puppet.pid());
  ASSERT_FALSE(given);
  EXPECT_NE(given.error().message().find("RLIMIT_LOCKS"), std::string::npos) << given.error().message();
  EXPECT_NE(given.error().message().find("CAP_SYS_RESOURCE"), std::string::npos) << given.error().message();
}

}  // namespace
}  // namespace dormouse::engine
