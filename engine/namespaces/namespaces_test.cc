#include "engine/namespaces/namespaces.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>

#include "engine/namespaces/ipc_limits.h"
#include "images/schema/namespaces.pb.h"
#include "images/schema/network.pb.h"
#include "kernel/abi.h"
#include "kernel/file.h"

namespace dormouse::engine {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PlanNamespaces : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/dormouse-namespaces-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    top_ = name;
    directory_ = *sys::openat(AT_FDCWD, top_, O_RDONLY | O_DIRECTORY);
    ids(*image_.inventory.mutable_root_ids(), 1, 2, 3, 4, 5, 6, 7, 8);
    // What runc makes, on a node with cgroup v1.
    ids(image_.tasks.emplace_back().ids, 9, 10, 11, 12, 5, 13, 7, 8);
    pb::utsns_entry names;
    names.set_nodename("node");
    names.set_domainname("domain");
    save(images::kUtsns, 12, names);
    save(images::kIpcnsVar, 11, read_ipc_limits().value());
  }
  void TearDown() override { ::system(("rm -rf " + top_).c_str()); }

  static void ids(pb::task_kobj_ids_entry& entry, int pid, int net, int ipc, int uts, int time, int mnt, int user,
                  int cgroup) {
    entry.set_pid_ns_id(pid);
    entry.set_net_ns_id(net);
    entry.set_ipc_ns_id(ipc);
    entry.set_uts_ns_id(uts);
    entry.set_time_ns_id(time);
    entry.set_mnt_ns_id(mnt);
    entry.set_user_ns_id(user);
    entry.set_cgroup_ns_id(cgroup);
  }
  void save(const images::ImageType& type, std::uint64_t number, const google::protobuf::MessageLite& record) {
    auto out = images::OutputDirectory::open(directory_.get()).value();
    ASSERT_TRUE(out.write(type, number, record));
  }
  void save_clocks(std::uint64_t number) {
    pb::timens_entry entry;
    for (auto* time : {entry.mutable_monotonic(), entry.mutable_boottime()}) {
      time->set_tv_sec(1);
      time->set_tv_nsec(2);
    }
    save(images::kTimens, number, entry);
  }
  Result<NamespacePlan> plan() {
    const auto in = images::InputDirectory::open(directory_.get()).value();
    return plan_namespaces({.options = options_, .log = log_, .in = in, .image = image_});
  }
  std::string failure() {
    const auto planned = plan();
    return planned ? "(none)" : planned.error().message();
  }
  std::uint64_t created() {
    const auto planned = plan();
    EXPECT_TRUE(planned) << planned.error().message();
    return planned ? planned->create : 0;
  }
  static std::vector<std::uint64_t> entered(const NamespacePlan& plan) {
    std::vector<std::uint64_t> flags;
    for (const auto& [fd, flag] : plan.enter) flags.push_back(flag);
    return flags;
  }

  static constexpr std::uint64_t kRunc =
      CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS;

  std::string top_;
  Fd directory_;
  RestoreOptions options_{};
  Image image_;
  NullLog log_;
};

TEST_F(PlanNamespaces, MakesWhatWasOwn) {
  const auto planned = plan();
  ASSERT_TRUE(planned) << planned.error().message();
  EXPECT_EQ(planned->create, kRunc);
  EXPECT_THAT(planned->enter, IsEmpty());
}

TEST_F(PlanNamespaces, KeepsClocksGoing) {
  save_clocks(0);
  EXPECT_EQ(created(), kRunc | abi::kCloneNewTime);
  options_.join_namespaces = {{.kind = "time", .path = "/proc/self/ns/time", .extra = ""}};
  EXPECT_EQ(created(), kRunc);
}

TEST_F(PlanNamespaces, LeavesClocksAloneThatWereNotSaved) {
  image_.tasks.front().ids.set_time_ns_id(14);
  EXPECT_EQ(created(), kRunc);
  save_clocks(14);
  EXPECT_EQ(created(), kRunc | abi::kCloneNewTime);
}

TEST_F(PlanNamespaces, JoinsInsteadOfMaking) {
  options_.join_namespaces = {{.kind = "user", .path = "/proc/self/ns/user", .extra = ""},
                              {.kind = "ipc", .path = "/proc/self/ns/ipc", .extra = ""},
                              {.kind = "uts", .path = std::to_string(::getpid()), .extra = ""}};
  const auto planned = plan();
  ASSERT_TRUE(planned) << planned.error().message();
  EXPECT_EQ(planned->create, kRunc & ~std::uint64_t{CLONE_NEWIPC | CLONE_NEWUTS});
  EXPECT_EQ(entered(*planned), (std::vector<std::uint64_t>{CLONE_NEWIPC, CLONE_NEWUTS}))
      << "one is in that user namespace already";
}

TEST_F(PlanNamespaces, NamesWhatCannotBeJoined) {
  options_.join_namespaces = {{.kind = "ipc", .path = "/nowhere", .extra = ""}};
  EXPECT_THAT(failure(), AllOf(HasSubstr("ipc namespace /nowhere"), HasSubstr("ENOENT")));
  options_.join_namespaces = {{.kind = "pid", .path = "/proc/self/ns/pid", .extra = ""}};
  EXPECT_THAT(failure(), HasSubstr("cannot be joined"));
}

TEST_F(PlanNamespaces, TakesInheritedOnes) {
  pb::netns_entry net;
  net.set_ext_key("extRootNetNS");
  pb::pidns_entry pid;
  pid.set_ext_key("extRootPidNS");
  save(images::kNetns, 10, net);
  save(images::kPidns, 9, pid);
  EXPECT_THAT(failure(), AllOf(HasSubstr("net namespace"), HasSubstr("--inherit-fd fd[N]:extRootNetNS")));

  const Fd file = *sys::openat(AT_FDCWD, "/proc/self/ns/net", O_RDONLY);
  options_.inherited = {{"extRootNetNS", file.get()}, {"extRootPidNS", file.get()}};
  const auto planned = plan();
  ASSERT_TRUE(planned) << planned.error().message();
  EXPECT_EQ(planned->create, kRunc & ~std::uint64_t{CLONE_NEWNET | CLONE_NEWPID});
  EXPECT_EQ(entered(*planned), (std::vector<std::uint64_t>{CLONE_NEWNET, CLONE_NEWPID}));
  EXPECT_NE(planned->enter.front().first.get(), file.get()) << "the caller's descriptor stays the caller's";
}

TEST_F(PlanNamespaces, NamesWhatIsMissing) {
  image_.tasks.front().ids.set_uts_ns_id(33);
  EXPECT_THAT(failure(), HasSubstr("utsns-33.img"));
}

TEST_F(PlanNamespaces, MakesNothingForPlainTasks) {
  ids(image_.tasks.front().ids, 1, 2, 3, 4, 5, 6, 7, 8);
  EXPECT_EQ(created(), 0u);
}

}  // namespace
}  // namespace dormouse::engine
