#include "shim/rpc_server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "images/schema/rpc.pb.h"
#include "kernel/socket.h"
#include "shim/testing.h"

namespace dormouse::shim {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

// A server in a thread, a client in the test, an engine that does what the test says.
class RpcServerTest : public ::testing::Test {
 protected:
  RpcServerTest() : home_(::open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    auto pair = sys::socketpair(AF_UNIX, SOCK_SEQPACKET);
    client_ = std::move(pair->one);
    worker_ = std::move(pair->other);
    engine_.checkpoint = [this](const engine::CheckpointOptions& options) {
      dumped_ = options;
      for (const char* stage : stages_)
        if (auto told = options.notify({.stage = stage}); !told)
          return CheckpointResult(std::unexpected(engine::Failures{{std::move(told).error()}}));
      if (!failures_.empty()) return CheckpointResult(std::unexpected(engine::Failures{failures_}));
      return CheckpointResult(engine::CheckpointReport{});
    };
    engine_.pre_dump = [this](const engine::CheckpointOptions& options) {
      pre_dumped_ = options;
      EXPECT_FALSE(options.notify);
      if (!failures_.empty()) return CheckpointResult(std::unexpected(engine::Failures{failures_}));
      return CheckpointResult(engine::CheckpointReport{});
    };
    engine_.restore = [this](const engine::RestoreOptions& options) {
      restored_ = options;
      for (const char* stage : stages_)
        if (auto told = options.notify({.stage = stage, .root_pid = 4711}); !told)
          return RestoreResult(std::unexpected(engine::Failures{{std::move(told).error()}}));
      if (!failures_.empty()) return RestoreResult(std::unexpected(engine::Failures{failures_}));
      return RestoreResult(engine::RestoreReport{.root_pid = 4711});
    };
    engine_.has_feature = [](sys::Feature) { return true; };
  }
  ~RpcServerTest() override {
    client_.reset();
    if (server_.joinable()) server_.join();
    EXPECT_EQ(::fchdir(home_.get()), 0);
  }

  void start() {
    server_ = std::thread([this] {
      code_ = serve_rpc(worker_.get(), base_, engine_);
      worker_.reset();
    });
  }
  void send_bytes(std::string_view bytes) {
    if (!server_.joinable()) start();
    ASSERT_EQ(::send(client_.get(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
  }
  void send(const pb::criu_req& request) { send_bytes(request.SerializePartialAsString()); }
  // Nothing: the server has closed the connection.
  std::optional<pb::criu_resp> receive() {
    const auto packet = sys::recv_with_fds(client_.get(), 8192, 1);
    if (!packet || packet->bytes.empty()) return std::nullopt;
    for (const Fd& fd : packet->fds) received_fd_ = ::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3);
    pb::criu_resp response;
    EXPECT_TRUE(
        response.ParseFromArray(packet->bytes.data(), static_cast<int>(packet->bytes.size())));
    last_size_ = packet->bytes.size();
    return response;
  }
  void acknowledge(bool success = true) {
    pb::criu_req request;
    request.set_type(pb::NOTIFY);
    request.set_notify_success(success);
    send(request);
  }
  // Half-closes like runc and takes the exit code.
  int exit_code() {
    ::shutdown(client_.get(), SHUT_WR);
    server_.join();
    return code_;
  }
  // Acknowledges every stage; returns the final reply.
  std::optional<pb::criu_resp> converse() {
    for (;;) {
      auto response = receive();
      if (!response || response->type() != pb::NOTIFY) return response;
      EXPECT_TRUE(response->success());
      told_.push_back(response->notify().script() + (response->notify().has_pid() ? "+pid" : ""));
      acknowledge();
    }
  }

  pb::criu_req request(pb::criu_req_type type) {
    pb::criu_req request;
    request.set_type(type);
    auto& opts = *request.mutable_opts();
    opts.set_images_dir_fd(images_.fd());
    opts.set_log_level(4);
    opts.set_log_file("dump.log");
    if (type == pb::DUMP || type == pb::PRE_DUMP || type == pb::SINGLE_PRE_DUMP) opts.set_pid(12);
    return request;
  }
  void expect_refused(const pb::criu_req& request, std::string_view text) {
    send(request);
    const auto response = receive();
    ASSERT_TRUE(response);
    EXPECT_FALSE(response->success());
    EXPECT_EQ(response->cr_errno(), EBADRQC);
    EXPECT_THAT(response->cr_errmsg(), HasSubstr(text));
    EXPECT_THAT(response->cr_errmsg(),
                ContainsRegex("^Error \\(shim/[a-z_]+\\.cc:[0-9]+\\): .*\n$"));
    EXPECT_THAT(images_.read("dump.log"), HasSubstr(text));
    EXPECT_EQ(exit_code(), 1);
    EXPECT_FALSE(dumped_ || restored_);
  }

  Fd home_;
  TemporaryDirectory images_, work_;
  Settings base_;
  EngineApi engine_;
  Fd client_, worker_;
  std::thread server_;
  int code_ = -1;
  std::optional<engine::CheckpointOptions> dumped_, pre_dumped_;
  std::optional<engine::RestoreOptions> restored_;
  std::vector<const char*> stages_;
  std::vector<Error> failures_;
  std::vector<std::string> told_;
  std::size_t last_size_ = 0;
  int received_fd_ = -1;
};

// ---- questions ----

TEST_F(RpcServerTest, Version) {
  pb::criu_req request;
  request.set_type(pb::VERSION);
  send(request);
  const auto response = receive();
  ASSERT_TRUE(response);
  EXPECT_EQ(response->type(), pb::VERSION);
  EXPECT_TRUE(response->success());
  EXPECT_EQ(response->version().major_number(), 4);
  EXPECT_EQ(response->version().minor_number(), 2);
  EXPECT_FALSE(response->version().has_gitid());
  EXPECT_FALSE(response->has_cr_errno());
  EXPECT_EQ(exit_code(), 0);
}

TEST_F(RpcServerTest, AVersionClientMayHangUpWithoutReading) {
  pb::criu_req request;
  request.set_type(pb::VERSION);
  request.mutable_opts();  // libcriu sends an empty one
  send(request);
  EXPECT_TRUE(receive());
  client_.reset();
  server_.join();
  EXPECT_EQ(code_, 0);
}

TEST_F(RpcServerTest, KeepOpenServesMoreRequestsAndThenEndsWell) {
  pb::criu_req request;
  request.set_type(pb::VERSION);
  request.set_keep_open(true);
  for (int i = 0; i < 3; ++i) {
    send(request);
    EXPECT_EQ(receive()->type(), pb::VERSION);
  }
  EXPECT_EQ(exit_code(), 0);
}

TEST_F(RpcServerTest, KeepOpenOnADumpIsRefusedWithoutReply) {
  auto dump = request(pb::DUMP);
  dump.set_keep_open(true);
  send(dump);
  EXPECT_FALSE(receive());
  EXPECT_EQ(exit_code(), 255);
}

TEST_F(RpcServerTest, FeaturesAreTrueOnlyWhenAskedForAndThere) {
  auto ask = request(pb::FEATURE_CHECK);  // runc 1.1 sends its options along
  ask.mutable_features()->set_mem_track(true);
  ask.mutable_features()->set_lazy_pages(false);
  send(ask);
  const auto response = receive();
  EXPECT_TRUE(response->success());
  EXPECT_TRUE(response->features().has_mem_track());
  EXPECT_TRUE(response->features().has_lazy_pages());
  EXPECT_TRUE(response->features().has_pidfd_store());
  EXPECT_TRUE(response->features().mem_track());
  // Not built: an honest no makes callers stop in time.
  EXPECT_FALSE(response->features().lazy_pages());
  EXPECT_EQ(exit_code(), 0);
}

TEST_F(RpcServerTest, FeatureCheckWithoutFeaturesFails) {
  pb::criu_req ask;
  ask.set_type(pb::FEATURE_CHECK);
  send(ask);
  EXPECT_FALSE(receive()->success());
  EXPECT_EQ(exit_code(), 0);
}

TEST_F(RpcServerTest, CheckNeedsNeitherOptionsNorDirectories) {
  pb::criu_req check;
  check.set_type(pb::CHECK);
  send(check);
  EXPECT_TRUE(receive()->success());
  EXPECT_EQ(exit_code(), 0);
}

TEST_F(RpcServerTest, CheckTellsWhatIsMissing) {
  engine_.has_feature = [](sys::Feature feature) { return feature != sys::Feature::kOpenat2; };
  auto check = request(pb::CHECK);
  send(check);
  const auto response = receive();
  EXPECT_FALSE(response->success());
  EXPECT_NE(response->cr_errno(), 0);
  EXPECT_THAT(response->cr_errmsg(), HasSubstr("feature openat2"));
  EXPECT_THAT(images_.read("dump.log"), HasSubstr("feature openat2"));
  EXPECT_EQ(exit_code(), 0);
}

TEST_F(RpcServerTest, WaitPidOfAStrangerFails) {
  pb::criu_req wait;
  wait.set_type(pb::WAIT_PID);
  wait.set_pid(1);
  send(wait);
  const auto response = receive();
  EXPECT_FALSE(response->success());
  EXPECT_EQ(response->cr_errno(), ECHILD);
  EXPECT_EQ(exit_code(), 0);
}

// ---- what is no request ----

TEST_F(RpcServerTest, EndOfConnectionBeforeTheFirstRequest) {
  start();
  EXPECT_EQ(exit_code(), 255);
}

TEST_F(RpcServerTest, UndecodableBytesGetNoReply) {
  send_bytes("\xff\xff\xff\xff");
  EXPECT_FALSE(receive());
  EXPECT_EQ(exit_code(), 255);
}

TEST_F(RpcServerTest, AMountWithoutKeyIsUndecodable) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->add_ext_mnt()->set_val("x");
  send(dump);
  EXPECT_FALSE(receive());
  EXPECT_EQ(exit_code(), 255);
}

TEST_F(RpcServerTest, UnknownAndMisplacedTypesAreAnsweredWithEmpty) {
  send_bytes("\x08\x63");  // type 99
  const auto response = receive();
  ASSERT_TRUE(response);
  EXPECT_EQ(response->type(), pb::EMPTY);
  EXPECT_FALSE(response->success());
  EXPECT_NE(response->cr_errno(), 0);
  EXPECT_EQ(exit_code(), 255);
}

TEST_F(RpcServerTest, AnAcknowledgementIsNoRequest) {
  acknowledge();
  EXPECT_EQ(receive()->type(), pb::EMPTY);
  EXPECT_EQ(exit_code(), 255);
}

TEST_F(RpcServerTest, ADumpWithoutOptionsFails) {
  pb::criu_req dump;
  dump.set_type(pb::DUMP);
  send(dump);
  const auto response = receive();
  EXPECT_EQ(response->type(), pb::DUMP);
  EXPECT_FALSE(response->success());
  EXPECT_EQ(response->cr_errno(), EBADRQC);
  EXPECT_EQ(exit_code(), 1);
}

// ---- dump ----

TEST_F(RpcServerTest, DumpReachesTheEngineWithDirectoriesAndLog) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_work_dir_fd(work_.fd());
  send(dump);
  const auto response = receive();
  ASSERT_TRUE(response);
  EXPECT_EQ(response->type(), pb::DUMP);
  EXPECT_TRUE(response->success());
  EXPECT_TRUE(response->dump().has_restored());
  EXPECT_FALSE(response->dump().restored());
  EXPECT_FALSE(response->has_cr_errno());
  EXPECT_FALSE(response->has_cr_errmsg());
  EXPECT_EQ(exit_code(), 0);
  EXPECT_EQ(dumped_->pid, 12);
  EXPECT_THAT(work_.read("dump.log"), ContainsRegex("Version: 4\\.2"));
  EXPECT_FALSE(images_.has("dump.log"));
}

TEST_F(RpcServerTest, TheWorkDirectoryIsTheImagesDirectoryByDefaultAndTheLogCriuLog) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->clear_log_file();
  send(dump);
  EXPECT_TRUE(receive()->success());
  EXPECT_EQ(exit_code(), 0);
  EXPECT_TRUE(images_.has("criu.log"));
}

TEST_F(RpcServerTest, ImagesDirectoryByPathWhenTheDescriptorIsLeftOut) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->clear_images_dir_fd();  // a message that lacks a required field
  dump.mutable_opts()->set_images_dir(images_.path());
  send(dump);
  EXPECT_TRUE(receive()->success());
}

TEST_F(RpcServerTest, NoImagesDirectoryIsRefused) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_images_dir_fd(-1);
  send(dump);
  const auto response = receive();
  EXPECT_EQ(response->cr_errno(), EBADRQC);
  EXPECT_THAT(response->cr_errmsg(), HasSubstr("images directory: not given"));
  EXPECT_EQ(exit_code(), 1);
}

TEST_F(RpcServerTest, ADescriptorThatTheClientDoesNotHaveIsRefused) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_images_dir_fd(987);
  send(dump);
  EXPECT_THAT(receive()->cr_errmsg(), ContainsRegex("images directory /proc/[0-9]+/fd/987: "));
}

TEST_F(RpcServerTest, EverythingThatRuncSendsIsUnderstood) {
  auto dump = request(pb::DUMP);
  auto& opts = *dump.mutable_opts();
  opts.set_work_dir_fd(work_.fd());
  opts.set_root("/run/rootfs");
  opts.set_manage_cgroups(true);
  opts.set_manage_cgroups_mode(pb::STRICT);
  opts.set_notify_scripts(true);
  opts.set_orphan_pts_master(true);
  opts.set_shell_job(false);
  opts.set_leave_running(true);
  opts.set_tcp_established(true);
  opts.set_ext_unix_sk(true);
  opts.set_file_locks(true);
  opts.set_auto_dedup(false);
  opts.set_lazy_pages(false);
  opts.set_empty_ns(CLONE_NEWNET);
  opts.set_config_file("/nonexistent/criu/runc.conf");
  opts.add_external("net[4026532]:extRootNetNS");
  opts.set_freeze_cgroup("/sys/fs/cgroup/freezer/c");
  for (const char* key : {"/dev/null", "/dev/null", "/sys/fs/cgroup/cpu"}) {
    auto& mount = *opts.add_ext_mnt();
    mount.set_key(key);
    mount.set_val(key);
  }
  stages_ = {"pre-dump", "network-lock", "query-ext-files", "post-dump"};
  send(dump);
  const auto response = converse();
  ASSERT_TRUE(response);
  EXPECT_TRUE(response->success()) << response->cr_errmsg();
  EXPECT_EQ(exit_code(), 0);
  EXPECT_THAT(told_, ElementsAre("pre-dump", "network-lock", "query-ext-files", "post-dump"));
  EXPECT_EQ(dumped_->root, "/run/rootfs");
  EXPECT_EQ(dumped_->cgroup_mode, engine::CgroupMode::kStrict);
  EXPECT_EQ(dumped_->after, engine::AfterDump::kResume);
  EXPECT_TRUE(dumped_->orphan_pts_master && dumped_->tcp_established && dumped_->file_locks &&
              dumped_->external_unix_sockets);
  EXPECT_EQ(dumped_->empty_namespaces, static_cast<std::uint64_t>(CLONE_NEWNET));
  EXPECT_THAT(dumped_->external_mounts, SizeIs(3));
  EXPECT_THAT(dumped_->externals, ElementsAre("net[4026532]:extRootNetNS"));
  EXPECT_EQ(dumped_->freeze_cgroup, "/sys/fs/cgroup/freezer/c");
}

TEST_F(RpcServerTest, AFailureHasErrnoMessageLogAndReport) {
  failures_.push_back(Error::unsupported("no such thing").object("fd 7").owner("task 3"));
  failures_.push_back(Error::kernel("open", ENOENT).object("\"x\"\t"));
  send(request(pb::DUMP));
  const auto response = receive();
  EXPECT_FALSE(response->success());
  EXPECT_EQ(response->cr_errno(), ENOTSUP);
  EXPECT_THAT(response->cr_errmsg(),
              ContainsRegex("^Error \\(shim/[^)]*\\): fd 7 of task 3: no such thing\n$"));
  EXPECT_EQ(exit_code(), 1);
  const std::string log = images_.read("dump.log");
  EXPECT_THAT(log, HasSubstr("fd 7 of task 3: no such thing\n"));
  EXPECT_EQ(log.find("no such thing"), log.rfind("no such thing"));
  EXPECT_EQ(
      images_.read("dump.log.json"),
      "{\"operation\": \"dump\", \"failures\": [\n"
      "  {\"object\": \"fd 7\", \"owner\": \"task 3\", \"reason\": \"no such thing\", "
      "\"remedy\": \"\", \"errno\": \"EOPNOTSUPP\"},\n"
      "  {\"object\": \"\\\"x\\\"\\u0009\", \"owner\": \"\", \"reason\": \"open: No such file or "
      "directory (ENOENT)\", \"remedy\": \"\", \"errno\": \"ENOENT\"}\n]}\n");
}

TEST_F(RpcServerTest, ASuccessLeavesNoOldReportBehind) {
  images_.write("dump.log.json", "old");
  send(request(pb::DUMP));
  EXPECT_TRUE(receive()->success());
  EXPECT_FALSE(images_.has("dump.log.json"));
}

TEST_F(RpcServerTest, RepliesStaySmall) {
  failures_.push_back(Error::unsupported(std::string(100'000, 'x')));
  send(request(pb::DUMP));
  const auto response = receive();
  ASSERT_TRUE(response);
  EXPECT_LT(last_size_, 1024u);
  EXPECT_EQ(response->cr_errmsg().back(), '\n');
}

TEST_F(RpcServerTest, ATaskThatIsGoneIsEsrch) {
  failures_.push_back(Error::task_died("gone"));
  send(request(pb::DUMP));
  EXPECT_EQ(receive()->cr_errno(), ESRCH);
}

TEST_F(RpcServerTest, ANegativeAcknowledgementStopsTheEngine) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_notify_scripts(true);
  stages_ = {"pre-dump", "post-dump"};
  send(dump);
  EXPECT_EQ(receive()->notify().script(), "pre-dump");
  acknowledge();
  EXPECT_EQ(receive()->notify().script(), "post-dump");
  acknowledge(false);
  const auto response = receive();
  EXPECT_EQ(response->type(), pb::DUMP);
  EXPECT_FALSE(response->success());
  EXPECT_NE(response->cr_errno(), 0);
  EXPECT_THAT(response->cr_errmsg(), HasSubstr("notification post-dump: the RPC client refused"));
  EXPECT_EQ(exit_code(), 1);
}

TEST_F(RpcServerTest, AnAnswerOfTheWrongTypeIsARefusal) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_notify_scripts(true);
  stages_ = {"pre-dump"};
  send(dump);
  ASSERT_TRUE(receive());
  pb::criu_req wrong;
  wrong.set_type(pb::VERSION);
  wrong.set_notify_success(true);
  send(wrong);
  EXPECT_FALSE(receive()->success());
  EXPECT_EQ(exit_code(), 1);
}

TEST_F(RpcServerTest, AClientThatVanishesAtAStageFailsTheDump) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_notify_scripts(true);
  stages_ = {"pre-dump", "post-dump"};
  send(dump);
  ASSERT_TRUE(receive());
  client_.reset();
  server_.join();
  EXPECT_EQ(code_, 1);
  EXPECT_THAT(images_.read("dump.log"), HasSubstr("the client closed the connection"));
}

TEST_F(RpcServerTest, WithoutNotifyScriptsTheClientIsNotBothered) {
  stages_ = {"pre-dump", "query-ext-files", "post-dump"};
  send(request(pb::DUMP));
  EXPECT_EQ(receive()->type(), pb::DUMP);
}

TEST_F(RpcServerTest, ExternalsThatTheClientAddsReachTheEngine) {
  std::vector<std::string> added;
  engine_.checkpoint = [&](const engine::CheckpointOptions& options) -> CheckpointResult {
    if (auto told = options.notify({.stage = "query-ext-files", .more_externals = &added}); !told)
      return std::unexpected(engine::Failures{{told.error()}});
    return engine::CheckpointReport{};
  };
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_notify_scripts(true);
  send(dump);
  ASSERT_EQ(receive()->notify().script(), "query-ext-files");
  pb::criu_req answer;
  answer.set_type(pb::NOTIFY);
  answer.set_notify_success(true);
  answer.mutable_opts()->add_external("unix[7]");
  send(answer);
  EXPECT_TRUE(receive()->success());
  EXPECT_THAT(added, ElementsAre("unix[7]"));
}

TEST_F(RpcServerTest, ActionScriptsOfConfigurationFilesRunAfterTheClientAgreed) {
  const std::string script =
      work_.write("s", "#!/bin/sh\necho $CRTOOLS_SCRIPT_ACTION $CRTOOLS_INIT_PID\n", 0700);
  base_.action_scripts.push_back(script);
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_notify_scripts(true);
  dump.mutable_opts()->set_log_level(0);
  stages_ = {"pre-dump", "post-dump"};
  send(dump);
  EXPECT_TRUE(converse()->success());
  EXPECT_EQ(images_.read("dump.log"), "pre-dump 12\npost-dump 12\n");
}

TEST_F(RpcServerTest, AFailingActionScriptFailsTheDump) {
  base_.action_scripts.push_back(work_.write("s", "#!/bin/sh\nexit 1\n", 0700));
  stages_ = {"post-dump"};
  send(request(pb::DUMP));
  const auto response = receive();
  EXPECT_FALSE(response->success());
  EXPECT_THAT(response->cr_errmsg(), HasSubstr("at stage post-dump: exited with status 1"));
}

// ---- what is refused, by name ----

TEST_F(RpcServerTest, SelfDumpIsRefusedByName) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->clear_pid();
  expect_refused(dump, "RPC field pid: a client that dumps itself is not built");
}

TEST_F(RpcServerTest, LazyPagesAreRefusedByName) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_lazy_pages(true);
  expect_refused(dump, "RPC field lazy_pages: ");
}

TEST_F(RpcServerTest, PageServerIsRefusedByName) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->mutable_ps()->set_port(1234);
  expect_refused(dump, "RPC field ps: ");
}

TEST_F(RpcServerTest, OtherEmptyNamespacesAreRefused) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_empty_ns(CLONE_NEWNET | CLONE_NEWNS);
  expect_refused(dump, "RPC field empty_ns: ");
}

TEST_F(RpcServerTest, UnknownEnumeratorsAreRefused) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->mutable_unknown_fields()->append("\x80\x04\x09", 3);  // network_lock = 9
  expect_refused(dump, "RPC field network_lock: ");
}

TEST_F(RpcServerTest, ALogInAnotherDirectoryIsRefused) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_log_file("../x.log");
  send(dump);
  EXPECT_THAT(receive()->cr_errmsg(), HasSubstr("RPC field log_file: "));
  EXPECT_EQ(exit_code(), 1);
}

TEST_F(RpcServerTest, EveryProblemOfARequestIsInTheLog) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_lazy_pages(true);
  dump.mutable_opts()->set_tcp_skip_in_flight(true);
  send(dump);
  EXPECT_FALSE(receive()->success());
  EXPECT_THAT(images_.read("dump.log"), HasSubstr("RPC field lazy_pages: "));
  EXPECT_THAT(images_.read("dump.log"), HasSubstr("RPC field tcp_skip_in_flight: "));
}

TEST_F(RpcServerTest, PreDumpsAndTheDumpThatTheyAreForCanShareAConnection) {
  auto pre_dump = request(pb::PRE_DUMP);
  pre_dump.mutable_opts()->set_pre_dump_mode(pb::VM_READ);
  send(pre_dump);
  auto response = receive();
  EXPECT_EQ(response->type(), pb::PRE_DUMP);
  EXPECT_TRUE(response->success());
  EXPECT_EQ(pre_dumped_->pre_dump_mode, engine::PreDumpMode::kRead);
  pre_dump.mutable_opts()->set_parent_img("../1");
  send(pre_dump);
  EXPECT_TRUE(receive()->success());
  EXPECT_EQ(pre_dumped_->parent_images, "../1");
  EXPECT_FALSE(dumped_);
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_parent_img("../2");
  dump.mutable_opts()->set_track_mem(true);
  dump.mutable_opts()->set_auto_dedup(true);
  send(dump);
  response = receive();
  EXPECT_EQ(response->type(), pb::DUMP);
  EXPECT_TRUE(response->success());
  EXPECT_TRUE(dumped_->track_memory);
  EXPECT_TRUE(dumped_->auto_dedup);
  EXPECT_EQ(dumped_->parent_images, "../2");
  EXPECT_EQ(exit_code(), 0);
}

TEST_F(RpcServerTest, NothingElseFollowsAPreDump) {
  send(request(pb::PRE_DUMP));
  EXPECT_TRUE(receive()->success());
  send(request(pb::RESTORE));
  const auto response = receive();
  EXPECT_EQ(response->type(), pb::EMPTY);
  EXPECT_FALSE(response->success());
  EXPECT_EQ(exit_code(), 255);
}

TEST_F(RpcServerTest, AFailedPreDumpEndsTheConnection) {
  failures_ = {Error::unsupported("no reason").object("x")};
  send(request(pb::PRE_DUMP));
  const auto response = receive();
  EXPECT_EQ(response->type(), pb::PRE_DUMP);
  EXPECT_FALSE(response->success());
  EXPECT_THAT(response->cr_errmsg(), HasSubstr("x: no reason"));
  EXPECT_EQ(exit_code(), 255);
}

TEST_F(RpcServerTest, ASinglePreDumpIsOne) {
  auto pre_dump = request(pb::SINGLE_PRE_DUMP);
  pre_dump.mutable_opts()->set_notify_scripts(true);
  send(pre_dump);
  const auto response = receive();  // nobody is told of stages
  EXPECT_EQ(response->type(), pb::SINGLE_PRE_DUMP);
  EXPECT_TRUE(response->success());
  EXPECT_EQ(exit_code(), 0);
}

TEST_F(RpcServerTest, APreDumpNeedsAPid) {
  auto pre_dump = request(pb::PRE_DUMP);
  pre_dump.mutable_opts()->clear_pid();
  send(pre_dump);
  EXPECT_THAT(receive()->cr_errmsg(), HasSubstr("RPC field pid: it is needed"));
  EXPECT_EQ(exit_code(), 255);
}

TEST_F(RpcServerTest, PageServersAreRefusedUnderTheirCommonType) {
  pb::criu_req server;
  server.set_type(pb::PAGE_SERVER_CHLD);
  server.set_keep_open(true);
  send(server);
  const auto response = receive();
  EXPECT_EQ(response->type(), pb::PAGE_SERVER);
  EXPECT_THAT(response->cr_errmsg(), HasSubstr("PAGE_SERVER_CHLD: the page server is not built"));
  EXPECT_EQ(exit_code(), 0);
}

TEST_F(RpcServerTest, CpuinfoIsSavedAndADifferentCpuIsNotSupported) {
  bool saved = false;
  engine_.save_cpu = [&](int) -> Result<> {
    saved = true;
    return {};
  };
  engine_.check_cpu = [&](int, const engine::CpuChecks& checks) -> Result<> {
    EXPECT_TRUE(checks.exact && !checks.fpu && !checks.instructions);
    return fail(Error::unsupported("it lacks avx").object("CPU"));
  };
  auto dump = request(pb::CPUINFO_DUMP);
  dump.set_keep_open(true);
  send(dump);
  EXPECT_TRUE(receive()->success());
  EXPECT_TRUE(saved);
  auto check = request(pb::CPUINFO_CHECK);
  check.mutable_opts()->set_cpu_cap(2);
  send(check);
  const auto response = receive();
  EXPECT_EQ(response->type(), pb::CPUINFO_CHECK);
  EXPECT_FALSE(response->success());
  EXPECT_EQ(response->cr_errno(), ENOTSUP);
  EXPECT_THAT(response->cr_errmsg(), HasSubstr("CPU: it lacks avx"));
  EXPECT_EQ(exit_code(), 0);
}

TEST_F(RpcServerTest, CpuChecksAreNumbered) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_cpu_cap(1 | 4);
  send(dump);
  EXPECT_TRUE(receive()->success());
  EXPECT_TRUE(dumped_->cpu.record && dumped_->cpu.fpu && dumped_->cpu.instructions && !dumped_->cpu.exact);
}

// ---- configuration files ----

TEST_F(RpcServerTest, AFieldThatIsPresentBeatsTheDefaultFilesAndAnAbsentOneDoesNot) {
  base_.common.tcp_established = true;
  base_.common.file_locks = true;
  base_.common.network_lock = engine::NetworkLock::kSkip;
  base_.log_file = "default.log";
  base_.verbosity = 1;
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->clear_log_file();
  dump.mutable_opts()->set_tcp_established(false);
  send(dump);
  EXPECT_TRUE(receive()->success());
  EXPECT_FALSE(dumped_->tcp_established);
  EXPECT_TRUE(dumped_->file_locks);
  EXPECT_EQ(dumped_->network_lock, engine::NetworkLock::kSkip);
  EXPECT_THAT(images_.read("default.log"), HasSubstr("Version")) << "log_level is the request's";
}

TEST_F(RpcServerTest, APresentFalseTakesBackWhatTheDefaultFilesAskFor) {
  base_.missing.insert_or_assign("lazy-pages",
                                 Settings::Missing{kDump, Error::unsupported("not built")});
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_lazy_pages(false);
  send(dump);
  EXPECT_TRUE(receive()->success());
}

TEST_F(RpcServerTest, TheRequestsConfigurationFileBeatsTheRequest) {
  TemporaryDirectory elsewhere;
  auto dump = request(pb::DUMP);
  auto& opts = *dump.mutable_opts();
  opts.set_work_dir_fd(images_.fd());
  opts.set_tcp_established(false);
  opts.set_leave_running(true);
  opts.set_config_file(work_.write(
      "runc.conf", "tcp-established\nleave-stopped\nnetwork-lock nftables\nverbosity 0\nlog-file " +
                       elsewhere.path("other.log") + "\nwork-dir " + work_.path() +
                       "\nghost-limit 7K\n"));
  stages_ = {"pre-dump"};
  send(dump);
  const auto response = receive();
  ASSERT_TRUE(response->success()) << response->cr_errmsg();
  EXPECT_TRUE(dumped_->tcp_established);
  EXPECT_EQ(dumped_->after, engine::AfterDump::kStop);
  EXPECT_EQ(dumped_->network_lock, engine::NetworkLock::kNftables);
  EXPECT_EQ(dumped_->ghost_limit_bytes, 7u << 10);
  EXPECT_THAT(elsewhere.read("other.log"), HasSubstr("stage pre-dump"))
      << "log_level is the request's";
  EXPECT_FALSE(images_.has("dump.log"));
}

TEST_F(RpcServerTest, WorkDirectoryOfTheDefaultFilesIsBelowTheRequests) {
  base_.work_dir = work_.path();
  base_.images_dir = "/nonexistent";  // never looked at: a request names its images
  send(request(pb::DUMP));
  EXPECT_TRUE(receive()->success());
  EXPECT_TRUE(work_.has("dump.log"));
}

TEST_F(RpcServerTest, AnUnknownOptionInTheRequestsFileIsEbadrqc) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_config_file(work_.write("c", "no-such-option\n"));
  expect_refused(dump, "\"no-such-option\" in " + work_.path("c") + ":1: unknown option");
}

TEST_F(RpcServerTest, WhatIsNotBuiltInTheRequestsFileIsRefusedWithItsPlace) {
  auto dump = request(pb::DUMP);
  dump.mutable_opts()->set_config_file(work_.write("c", "\nskip-in-flight\n"));
  expect_refused(dump, "\"skip-in-flight\" in " + work_.path("c") + ":2: ");
}

// ---- restore ----

TEST_F(RpcServerTest, RestoreAsRuncDoesIt) {
  int pipe_ends[2];
  ASSERT_EQ(::pipe2(pipe_ends, O_CLOEXEC), 0);
  auto restore = request(pb::RESTORE);
  auto& opts = *restore.mutable_opts();
  opts.set_log_file("restore.log");
  opts.set_evasive_devices(true);
  opts.set_rst_sibling(true);
  opts.set_notify_scripts(true);
  opts.set_orphan_pts_master(true);
  opts.set_empty_ns(CLONE_NEWNET);
  opts.set_lsm_profile("apparmor:x");
  auto& v2 = *opts.add_cg_root();
  v2.set_ctrl("");
  v2.set_path("/c");
  opts.add_cg_root()->set_path("/all");
  auto& join = *opts.add_join_ns();
  join.set_ns("ipc");
  join.set_ns_file("/proc/self/ns/ipc");
  auto& inherited = *opts.add_inherit_fd();
  inherited.set_key("pipe:[4711]");
  inherited.set_fd(pipe_ends[0]);
  stages_ = {"pre-restore",  "setup-namespaces", "post-setup-namespaces",
             "post-restore", "network-unlock",   "pre-resume",
             "post-resume"};
  send(restore);
  const auto response = converse();
  ASSERT_TRUE(response);
  EXPECT_TRUE(response->success()) << response->cr_errmsg();
  EXPECT_EQ(response->type(), pb::RESTORE);
  EXPECT_EQ(response->restore().pid(), 4711);
  EXPECT_EQ(exit_code(), 0);
  EXPECT_THAT(told_,
              ElementsAre("pre-restore", "setup-namespaces+pid", "post-setup-namespaces",
                          "post-restore+pid", "network-unlock", "pre-resume", "post-resume"));
  EXPECT_TRUE(restored_->as_sibling);
  ASSERT_THAT(restored_->cgroup_roots, SizeIs(2));
  EXPECT_FALSE(restored_->cgroup_roots[0].every_controller);
  EXPECT_TRUE(restored_->cgroup_roots[1].every_controller);
  EXPECT_EQ(restored_->join_namespaces[0].kind, "ipc");
  EXPECT_EQ(restored_->inherited[0].fd, pipe_ends[0]);
  EXPECT_EQ(restored_->lsm_profile, "apparmor:x");
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
}

TEST_F(RpcServerTest, AFailedRestoreNamesTheRootThatTheClientHasToReap) {
  auto restore = request(pb::RESTORE);
  restore.mutable_opts()->set_notify_scripts(true);
  stages_ = {"pre-restore", "setup-namespaces", "post-restore"};
  failures_.push_back(Error::conflict("pid 3 is taken", EEXIST));
  send(restore);
  const auto response = converse();
  EXPECT_FALSE(response->success());
  EXPECT_EQ(response->cr_errno(), EEXIST);
  EXPECT_EQ(response->restore().pid(), 4711);
  EXPECT_EQ(exit_code(), 1);
}

TEST_F(RpcServerTest, ARestoreThatFailsBeforeTheRootExistsSaysMinusOne) {
  auto restore = request(pb::RESTORE);
  failures_.push_back(Error::corrupt("broken"));
  send(restore);
  const auto response = receive();
  EXPECT_EQ(response->restore().pid(), -1);
  EXPECT_EQ(response->cr_errno(), EBADMSG);
}

TEST_F(RpcServerTest, TheTerminalsMasterTravelsWithItsNotification) {
  engine_.restore = [&](const engine::RestoreOptions& options) -> RestoreResult {
    if (auto told = options.notify({.stage = "orphan-pts-master", .descriptor = images_.fd()});
        !told)
      return std::unexpected(engine::Failures{{told.error()}});
    return engine::RestoreReport{.root_pid = 4711};
  };
  auto restore = request(pb::RESTORE);
  restore.mutable_opts()->set_notify_scripts(true);
  restore.mutable_opts()->set_orphan_pts_master(true);
  send(restore);
  const auto stage = receive();
  EXPECT_EQ(stage->notify().script(), "orphan-pts-master");
  EXPECT_FALSE(stage->notify().has_pid());
  ASSERT_GE(received_fd_, 0);
  struct stat sent {
  }, got{};
  ASSERT_EQ(::fstat(images_.fd(), &sent), 0);
  ASSERT_EQ(::fstat(received_fd_, &got), 0);
  EXPECT_EQ(sent.st_ino, got.st_ino);
  ::close(received_fd_);
  acknowledge();
  EXPECT_TRUE(receive()->success());
}

TEST_F(RpcServerTest, AMasterThatNobodyTakesIsAFailure) {
  engine_.restore = [&](const engine::RestoreOptions& options) -> RestoreResult {
    if (auto told = options.notify({.stage = "orphan-pts-master", .descriptor = images_.fd()});
        !told)
      return std::unexpected(engine::Failures{{told.error()}});
    return engine::RestoreReport{};
  };
  send(request(pb::RESTORE));
  EXPECT_FALSE(receive()->success());
}

TEST_F(RpcServerTest, AnInheritedDescriptorThatIsNotThereIsRefused) {
  auto restore = request(pb::RESTORE);
  auto& inherited = *restore.mutable_opts()->add_inherit_fd();
  inherited.set_key("pipe:[4711]");
  inherited.set_fd(987);
  expect_refused(restore, "fd 987: ");
}

TEST_F(RpcServerTest, ThePidFileIsWrittenBeforeTheTasksRunAndNeverOverwritten) {
  base_.pidfile = "pid";
  stages_ = {"post-restore"};
  send(request(pb::RESTORE));
  EXPECT_TRUE(receive()->success());
  EXPECT_EQ(images_.read("pid"), "4711");
}

TEST_F(RpcServerTest, AnOldPidFileFailsTheRestore) {
  base_.pidfile = "pid";
  images_.write("pid", "1");
  stages_ = {"post-restore"};
  send(request(pb::RESTORE));
  EXPECT_THAT(receive()->cr_errmsg(), HasSubstr("pid file pid: "));
  EXPECT_EQ(images_.read("pid"), "1");
}

TEST_F(RpcServerTest, ThePidFileOfARestoreThatFailsLaterIsGone) {
  base_.pidfile = "pid";
  stages_ = {"post-restore"};
  failures_.push_back(Error::unsupported("late"));
  send(request(pb::RESTORE));
  EXPECT_FALSE(receive()->success());
  EXPECT_FALSE(images_.has("pid"));
}

TEST_F(RpcServerTest, ExecCmdBecomesTheCommandWithTheLogAsItsOutput) {
  auto restore = request(pb::RESTORE);
  for (const char* word : {"sh", "-c", "echo out; echo err >&2"})
    restore.mutable_opts()->add_exec_cmd(word);
  restore.mutable_opts()->set_log_level(0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::fcntl(worker_.get(), F_SETFD, FD_CLOEXEC);
    ::_exit(serve_rpc(worker_.get(), base_, engine_));
  }
  worker_.reset();
  const std::string bytes = restore.SerializeAsString();
  ASSERT_GT(::send(client_.get(), bytes.data(), bytes.size(), 0), 0);
  EXPECT_TRUE(receive()->success());
  EXPECT_FALSE(receive());  // the connection ends with the exec
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(images_.read("dump.log"), "out\nerr\n");
}

}  // namespace
}  // namespace dormouse::shim
