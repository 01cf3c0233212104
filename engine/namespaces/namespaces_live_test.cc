// Namespaces saved and filled anew, in private namespaces of the test's own. Takes root.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <time.h>

#include "engine/inmate_for_tests.h"
#include "engine/namespaces/namespaces.h"
#include "images/schema/ipc.pb.h"
#include "images/schema/namespaces.pb.h"
#include "images/schema/network.pb.h"
#include "kernel/mount_api.h"
#include "netns/contents.h"

namespace dormouse::engine {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::uint64_t kRunc = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET;

class NamespacesLive : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    char name[] = "/tmp/dormouse-namespaces-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    top_ = name;
    directory_ = *sys::openat(AT_FDCWD, top_, O_RDONLY | O_DIRECTORY);
    dump_.empty_namespaces = CLONE_NEWNET;
  }
  void TearDown() override {
    if (!top_.empty()) ::system(("rm -rf " + top_).c_str());
  }

  // Messages of all blockers. Fills image_ as a loaded image would be.
  std::vector<std::string> save(const Inmate& inmate) {
    const Tree tree = inmate.tree();
    Blockers blockers;
    auto out = images::OutputDirectory::open(directory_.get()).value();
    DumpContext context{.options = dump_, .log = log_, .out = out, .tree = tree, .blockers = blockers};
    auto dump = NamespacesDump::identify(context);
    EXPECT_TRUE(dump);
    own_ = dump->own();
    const NamespaceIds ids = ids_ = dump->ids_of(tree.root()), outside = outside_ = dump->outside();
    image_ = Image();
    fill(*image_.inventory.mutable_root_ids(), outside);
    fill(image_.tasks.emplace_back().ids, ids);
    Result<> saved = dump->save(context);
    if (saved) saved = dump->save_clocks(context);
    std::vector<std::string> messages;
    if (!saved) messages.push_back(saved.error().message());
    for (const auto& error : std::move(blockers).take()) messages.push_back(error.message());
    return messages;
  }
  static void fill(pb::task_kobj_ids_entry& entry, const NamespaceIds& ids) {
    entry.set_pid_ns_id(ids.pid);
    entry.set_net_ns_id(ids.net);
    entry.set_ipc_ns_id(ids.ipc);
    entry.set_uts_ns_id(ids.uts);
    entry.set_time_ns_id(ids.time);
    entry.set_mnt_ns_id(ids.mnt);
    entry.set_user_ns_id(ids.user);
    entry.set_cgroup_ns_id(ids.cgroup);
  }
  template <class Record>
  Record read(const images::ImageType& type, std::uint64_t number) {
    Record record;
    const auto in = images::InputDirectory::open(directory_.get()).value();
    const auto result = in.read(type, number, record);
    EXPECT_TRUE(result) << result.error().message();
    return record;
  }
  template <class Use>
  auto with_context(Use use) {
    const auto in = images::InputDirectory::open(directory_.get()).value();
    return use(RestoreContext{.options = restore_, .log = log_, .in = in, .image = image_});
  }

  std::string top_;
  Fd directory_;
  CheckpointOptions dump_;
  RestoreOptions restore_{};
  Image image_;
  NullLog log_;
  std::uint64_t own_ = 0;
  NamespaceIds ids_, outside_;
};

Result<> expect(bool condition, const char* what) {
  return condition ? Result<>{} : Result<>(fail(Error::unsupported(what)));
}

TEST_F(NamespacesLive, CountsAsTheReferenceDoes) {
  const Inmate inmate(kRunc, [] { return Result<>{}; });
  ASSERT_THAT(save(inmate), IsEmpty());
  EXPECT_EQ(own_, kRunc);
  EXPECT_EQ(outside_.pid, 1u);
  EXPECT_EQ(outside_.net, 2u);
  EXPECT_EQ(outside_.cgroup, 8u);
  EXPECT_EQ(ids_.pid, 9u);
  EXPECT_EQ(ids_.net, 10u);
  EXPECT_EQ(ids_.ipc, 11u);
  EXPECT_EQ(ids_.uts, 12u);
  EXPECT_EQ(ids_.time, outside_.time);
  EXPECT_EQ(ids_.mnt, 13u);
  EXPECT_EQ(ids_.user, outside_.user);
}

TEST_F(NamespacesLive, RestoresNamesLimitsAndLoopback) {
  {
    const Inmate inmate(kRunc, []() -> Result<> {
      TRY(expect(::sethostname("sleeper", 7) == 0 && ::setdomainname("example", 7) == 0, "names"));
      TRY(sys::write_file(AT_FDCWD, "/proc/sys/kernel/sem", "100 2000 30 40"));
      TRY(sys::write_file(AT_FDCWD, "/proc/sys/kernel/shmmni", "77"));
      TRY(sys::write_file(AT_FDCWD, "/proc/sys/fs/mqueue/msg_max", "9"));
      return netns::set_loopback(true);
    });
    ASSERT_EQ(inmate.said(), "ok");
    ASSERT_THAT(save(inmate), IsEmpty());
  }
  const auto limits = read<pb::ipc_var_entry>(images::kIpcnsVar, ids_.ipc);
  EXPECT_THAT(limits.sem_ctls(), ElementsAre(100, 2000, 30, 40));
  EXPECT_EQ(limits.shm_ctlmni(), 77u);
  EXPECT_EQ(limits.mq_msg_max(), 9u);
  EXPECT_EQ(limits.msg_ctlmax(), 8192u);
  EXPECT_FALSE(limits.has_msg_next_id());

  const auto plan = with_context([](const auto& context) { return plan_namespaces(context); });
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->create, kRunc | abi::kCloneNewTime);
  const Inmate again(kRunc, [&]() -> Result<> {
    TRY(with_context([&](const auto& context) { return fill_namespaces(context, *plan); }));
    utsname names{};
    ::uname(&names);
    TRY(expect(!::strcmp(names.nodename, "sleeper") && !::strcmp(names.domainname, "example"), "names"));
    const std::string sem = TRY(sys::read_file(AT_FDCWD, "/proc/sys/kernel/sem"));
    TRY(expect(sem == "100\t2000\t30\t40\n", "semaphore limits"));
    const std::string shmmni = TRY(sys::read_file(AT_FDCWD, "/proc/sys/kernel/shmmni"));
    TRY(expect(shmmni == "77\n", "shmmni"));
    const Fd socket = TRY(netns::open_route_socket());
    const auto loopback = TRY(netns::look_at_loopback(socket));
    return expect(loopback.flags & IFF_UP, "loopback is down");
  });
  EXPECT_EQ(again.said(), "ok");
  const std::string here = *sys::read_file(AT_FDCWD, "/proc/sys/kernel/shmmni");
  EXPECT_NE(here, "77\n") << "the node's own limits are as they were";
}

TEST_F(NamespacesLive, KeepsClocksGoing) {
  {
    const Inmate inmate(kRunc, [] { return Result<>{}; });
    ASSERT_THAT(save(inmate), IsEmpty());
  }
  auto saved = read<pb::timens_entry>(images::kTimens, 0);
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const auto monotonic = static_cast<std::int64_t>(saved.monotonic().tv_sec());
  EXPECT_LE(std::abs(monotonic - now.tv_sec), 2);

  // As if it had been on another node, up for a year.
  saved.mutable_monotonic()->set_tv_sec(31'000'000);
  auto out = images::OutputDirectory::open(directory_.get()).value();
  ASSERT_TRUE(out.write(images::kTimens, 0, saved));
  const Inmate again(0, [&]() -> Result<> {
    TRY(sys::unshare(abi::kCloneNewTime));
    TRY(with_context([](const auto& context) { return write_time_offsets(context); }));
    const Fd own = TRY(sys::openat(AT_FDCWD, "/proc/self/ns/time_for_children", O_RDONLY));
    TRY(sys::setns(own.get(), abi::kCloneNewTime));
    timespec inside{};
    ::clock_gettime(CLOCK_MONOTONIC, &inside);
    return expect(inside.tv_sec >= 31'000'000 && inside.tv_sec < 31'000'010, "monotonic clock");
  });
  ASSERT_EQ(again.said(), "ok");

  // Saved from inside that namespace, the clocks are those that are seen there.
  ASSERT_THAT(save(again), IsEmpty());
  EXPECT_EQ(own_, abi::kCloneNewTime);
  const auto second = read<pb::timens_entry>(images::kTimens, ids_.time);
  EXPECT_GE(second.monotonic().tv_sec(), 31'000'000u);
  EXPECT_LT(second.monotonic().tv_sec(), 31'000'010u);
}

TEST_F(NamespacesLive, SavesSystemVObjectsAndNamesPosixQueues) {
  const Inmate inmate(kRunc, []() -> Result<> {
    TRY(expect(::shmget(IPC_PRIVATE, 5000, IPC_CREAT | 0640) >= 0, "shmget"));
    const Fd context = TRY(sys::fsopen("mqueue"));
    TRY(sys::fsconfig_create(context.get()));
    const Fd mount = TRY(sys::fsmount(context.get()));
    const Fd queue = TRY(sys::openat(mount.get(), "letters", O_CREAT | O_RDWR, 0600));
    return {};
  });
  ASSERT_EQ(inmate.said(), "ok");
  EXPECT_THAT(save(inmate), ElementsAre(HasSubstr("POSIX message queue /letters of pid 1 (inmate)")));
  const auto segment = read<pb::ipc_shm_entry>(images::kIpcnsShm, ids_.ipc);
  EXPECT_EQ(segment.size(), 5000u);
  EXPECT_EQ(segment.desc().mode(), 0640u);
  EXPECT_TRUE(segment.in_pagemaps());
}

TEST_F(NamespacesLive, DoesNotTouchASegmentThatWouldGo) {
  const Inmate inmate(kRunc, []() -> Result<> {
    TRY(expect(::shmget(IPC_PRIVATE, 5000, IPC_CREAT | 0640) >= 0, "shmget"));
    return sys::write_file(AT_FDCWD, "/proc/sys/kernel/shm_rmid_forced", "1");
  });
  ASSERT_EQ(inmate.said(), "ok");
  for (int again = 0; again < 2; ++again)
    EXPECT_THAT(save(inmate), ElementsAre(AllOf(HasSubstr("System V shared memory 0 of pid 1 (inmate): nobody is attached"),
                                                HasSubstr("shm_rmid_forced"))));
}

TEST_F(NamespacesLive, NamesWhatIsInANetworkNamespace) {
  dump_.empty_namespaces = 0;
  {
    const Inmate fresh(kRunc, [] { return netns::set_loopback(true); });
    ASSERT_EQ(fresh.said(), "ok");
    EXPECT_THAT(save(fresh), IsEmpty());
    EXPECT_TRUE(read<pb::net_device_entry>(images::kNetdev, ids_.net).flags() & IFF_UP);
    EXPECT_FALSE(read<pb::netns_entry>(images::kNetns, ids_.net).has_ext_key());
  }
  const Inmate inmate(kRunc, []() -> Result<> {
    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    ::strcpy(request.ifr_name, "lo:1");
    auto* const address = reinterpret_cast<sockaddr_in*>(&request.ifr_addr);
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = ::htonl(0x0a010203);
    TRY(expect(::ioctl(socket.get(), SIOCSIFADDR, &request) == 0, "address"));
    Fd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    ifreq device{};
    device.ifr_flags = IFF_TUN | IFF_NO_PI;
    ::strcpy(device.ifr_name, "burrow");
    if (tun && ::ioctl(tun.get(), TUNSETIFF, &device) == 0) (void)tun.release();
    return {};
  });
  ASSERT_EQ(inmate.said(), "ok");
  const auto messages = save(inmate);
  EXPECT_THAT(messages, Contains(AllOf(HasSubstr("address 10.1.2.3/8 on lo"), HasSubstr("--empty-ns net"))));
  if (sys::faccessat(AT_FDCWD, "/dev/net/tun", F_OK)) {
    EXPECT_THAT(messages, Contains(HasSubstr("link burrow")));
  }

  dump_.empty_namespaces = CLONE_NEWNET;
  EXPECT_THAT(save(inmate), IsEmpty());
}

TEST_F(NamespacesLive, RecordsExternalOnes) {
  const Inmate inmate(kRunc, [] { return Result<>{}; });
  const auto inode = [&](const char* kind) {
    struct ::stat stat {};
    EXPECT_EQ(::stat(format("/proc/{}/ns/{}", inmate.pid(), kind).c_str(), &stat), 0);
    return stat.st_ino;
  };
  dump_.empty_namespaces = 0;
  dump_.externals = {format("net[{}]:extRootNetNS", inode("net")), format("pid[{}]:extRootPidNS", inode("pid"))};
  ASSERT_THAT(save(inmate), IsEmpty());
  EXPECT_EQ(read<pb::netns_entry>(images::kNetns, ids_.net).ext_key(), "extRootNetNS");
  EXPECT_EQ(read<pb::pidns_entry>(images::kPidns, ids_.pid).ext_key(), "extRootPidNS");
}

TEST_F(NamespacesLive, RestoresUserMaps) {
  {
    const Inmate plain(CLONE_NEWUSER | CLONE_NEWUTS, [] { return Result<>{}; });
    ASSERT_TRUE(sys::write_file(AT_FDCWD, format("/proc/{}/uid_map", plain.pid()), "0 100000 10\n1000 200000 5\n"));
    ASSERT_TRUE(sys::write_file(AT_FDCWD, format("/proc/{}/gid_map", plain.pid()), "0 100000 10\n"));
    ASSERT_THAT(save(plain), IsEmpty());
  }
  EXPECT_TRUE(own_ & CLONE_NEWUSER);
  const Inmate again(CLONE_NEWUSER, [] { return Result<>{}; });
  const auto written = with_context([&](const auto& context) { return write_user_maps(context, again.pid()); });
  ASSERT_TRUE(written) << written.error().message();
  EXPECT_EQ(read<pb::userns_entry>(images::kUserns, ids_.user).uid_map_size(), 2);
  EXPECT_THAT(again.read("uid_map"), HasSubstr("200000"));
  EXPECT_THAT(again.read("gid_map"), HasSubstr("100000"));
}

TEST_F(NamespacesLive, RefusesNamespacesWithinTheTree) {
  const Inmate root(kRunc, [] { return Result<>{}; });
  const Inmate other(CLONE_NEWUTS, [] { return Result<>{}; });
  Tree tree = root.tree();
  Tree more = other.tree();
  tree.tasks.push_back(std::move(more.tasks.front()));
  tree.tasks.back()->ns_pid = 2;
  Blockers blockers;
  auto out = images::OutputDirectory::open(directory_.get()).value();
  DumpContext context{.options = dump_, .log = log_, .out = out, .tree = tree, .blockers = blockers};
  ASSERT_TRUE(NamespacesDump::identify(context));
  std::vector<std::string> messages;
  for (const auto& error : std::move(blockers).take()) messages.push_back(error.message());
  EXPECT_THAT(messages, Contains(HasSubstr("uts namespace of pid 2 (inmate)")));
}

}  // namespace
}  // namespace dormouse::engine
