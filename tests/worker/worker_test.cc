// The built `criu swrk FD`, started and spoken to as container runtimes do it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <optional>

#include "images/schema/rpc.pb.h"
#include "shim/testing.h"

namespace dormouse {
namespace {

using ::testing::HasSubstr;

// A worker on descriptor `number`, as the runtime's child: the runtime keeps its end of the socket
// pair, so that it is the peer whose descriptors the worker looks up.
class Worker {
 public:
  explicit Worker(int number = 3, std::vector<std::string> environment = {}) {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    socket_ = Fd(ends[0]);
    const Fd other(ends[1]);
    output_ =
        Fd(::open(dir_.path("output").c_str(), O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0600));
    pid_ = ::fork();
    if (pid_ == 0) {
      const std::string text = std::to_string(number);
      if (::dup2(other.get(), number) < 0 || ::dup2(output_.get(), 1) < 0 ||
          ::dup2(output_.get(), 2) < 0)
        ::_exit(126);
      if (other.get() == number) ::fcntl(number, F_SETFD, 0);
      for (std::string& variable : environment) ::putenv(variable.data());
      ::execl(CRIU_PROGRAM, "criu", "swrk", text.c_str(), nullptr);
      ::_exit(127);
    }
  }
  ~Worker() {
    if (pid_ > 0) (void)exit_code();
  }

  void send(const pb::criu_req& request) {
    const std::string bytes = request.SerializePartialAsString();
    ASSERT_EQ(::send(socket_.get(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
  }
  std::optional<pb::criu_resp> receive() {
    char bytes[8192];
    const ssize_t size = ::recv(socket_.get(), bytes, sizeof bytes, 0);
    pb::criu_resp response;
    if (size <= 0 || !response.ParseFromArray(bytes, static_cast<int>(size))) return std::nullopt;
    return response;
  }
  void half_close() { ::shutdown(socket_.get(), SHUT_WR); }
  int exit_code() {
    socket_.reset();
    int status = -1;
    EXPECT_EQ(::waitpid(std::exchange(pid_, -1), &status, 0) > 0, true);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  // Everything the worker said on stdout and stderr.
  std::string output() const { return dir_.read("output"); }

 private:
  shim::TemporaryDirectory dir_;
  Fd socket_, output_;
  pid_t pid_ = -1;
};

pb::criu_req request(pb::criu_req_type type) {
  pb::criu_req message;
  message.set_type(type);
  return message;
}

// A task to name in requests.
class Victim {
 public:
  Victim() : pid_(::fork()) {
    if (pid_ == 0)
      for (;;) ::pause();
  }
  ~Victim() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  bool runs() const { return ::waitpid(pid_, nullptr, WNOHANG | WUNTRACED) == 0; }

 private:
  pid_t pid_;
};

TEST(Worker, VersionThenHangUp) {
  Worker worker;
  worker.send(request(pb::VERSION));
  const auto response = worker.receive();
  ASSERT_TRUE(response);
  EXPECT_EQ(response->version().major_number() * 10000 + response->version().minor_number() * 100,
            40200);
  EXPECT_FALSE(response->version().has_gitid());
  EXPECT_EQ(worker.exit_code(), 0);
  EXPECT_EQ(worker.output(), "");
}

TEST(Worker, AnyDescriptorNumberWillDo) {
  Worker worker(17);
  worker.send(request(pb::VERSION));
  EXPECT_TRUE(worker.receive());
  EXPECT_EQ(worker.exit_code(), 0);
}

TEST(Worker, FeatureCheckWithTheOptionsOfTheWholeDump) {
  shim::TemporaryDirectory images;
  Worker worker;
  auto message = request(pb::FEATURE_CHECK);
  message.mutable_features()->set_mem_track(true);
  message.mutable_opts()->set_images_dir_fd(images.fd());
  message.mutable_opts()->set_log_file("dump.log");
  worker.send(message);
  const auto response = worker.receive();
  ASSERT_TRUE(response);
  EXPECT_TRUE(response->success());
  EXPECT_TRUE(response->has_features());
  worker.half_close();
  EXPECT_EQ(worker.exit_code(), 0);
  EXPECT_EQ(worker.output(), "");
  EXPECT_FALSE(images.has("dump.log"));
}

TEST(Worker, CheckIsSilent) {
  Worker worker;
  worker.send(request(pb::CHECK));
  ASSERT_TRUE(worker.receive());
  EXPECT_EQ(worker.exit_code(), 0);
  EXPECT_EQ(worker.output(), "");
}

TEST(Worker, ADumpOfNobodyFailsWithAnErrnoAndALog) {
  shim::TemporaryDirectory images, work;
  Worker worker;
  auto message = request(pb::DUMP);
  auto& opts = *message.mutable_opts();
  opts.set_images_dir_fd(images.fd());
  opts.set_work_dir_fd(work.fd());
  opts.set_log_level(4);
  opts.set_log_file("dump.log");
  opts.set_pid(0x3ffffff);
  worker.send(message);
  const auto response = worker.receive();
  ASSERT_TRUE(response);
  EXPECT_EQ(response->type(), pb::DUMP);
  EXPECT_FALSE(response->success());
  EXPECT_NE(response->cr_errno(), 0);
  EXPECT_THAT(work.read("dump.log"), HasSubstr(response->cr_errmsg()));
  EXPECT_EQ(worker.exit_code(), 1);
  EXPECT_EQ(worker.output(), "");
}

TEST(Worker, ARefusedRequestLeavesTheTaskAlone) {
  shim::TemporaryDirectory images;
  Victim victim;
  Worker worker;
  auto message = request(pb::DUMP);
  auto& opts = *message.mutable_opts();
  opts.set_images_dir_fd(images.fd());
  opts.set_pid(victim.pid());
  opts.set_log_file("../dump.log");
  worker.send(message);
  const auto response = worker.receive();
  ASSERT_TRUE(response);
  EXPECT_FALSE(response->success());
  EXPECT_EQ(response->cr_errno(), EBADRQC);
  EXPECT_THAT(response->cr_errmsg(), HasSubstr("log_file"));
  EXPECT_EQ(worker.exit_code(), 1);
  EXPECT_TRUE(victim.runs());
}

TEST(Worker, AClientThatVanishesBeforeItsFirstRequest) {
  Worker worker;
  EXPECT_EQ(worker.exit_code(), 255);
  EXPECT_EQ(worker.output(), "");
}

TEST(Worker, AClientThatVanishesAtTheFirstStageLeavesTheTaskAlone) {
  shim::TemporaryDirectory images;
  Victim victim;
  Worker worker;
  auto message = request(pb::DUMP);
  auto& opts = *message.mutable_opts();
  opts.set_images_dir_fd(images.fd());
  opts.set_pid(victim.pid());
  opts.set_notify_scripts(true);
  worker.send(message);
  const auto stage = worker.receive();
  ASSERT_TRUE(stage);
  if (stage->type() != pb::NOTIFY) GTEST_SKIP() << "no stage came: " << stage->cr_errmsg();
  EXPECT_EQ(stage->notify().script(), "pre-dump");
  EXPECT_EQ(worker.exit_code(), 1);
  EXPECT_TRUE(victim.runs());
  EXPECT_FALSE(images.has("dormouse.json"));
}

TEST(Worker, ABadConfigurationFileIsToldOnStderrBeforeAnyRequest) {
  shim::TemporaryDirectory dir;
  Worker worker(3, {"CRIU_CONFIG_FILE=" + dir.write("c", "no-such-option\n")});
  EXPECT_EQ(worker.exit_code(), 1);
  EXPECT_THAT(worker.output(),
              HasSubstr("\"no-such-option\" in " + dir.path("c") + ":1: unknown option"));
}

TEST(Worker, WithoutADescriptorItTellsItsUsage) {
  shim::TemporaryDirectory dir;
  const std::string command = std::string(CRIU_PROGRAM) + " swrk 2>" + dir.path("err");
  EXPECT_EQ(WEXITSTATUS(::system(command.c_str())), 1);
  EXPECT_THAT(dir.read("err"), HasSubstr("usage: criu swrk FD"));
}

}  // namespace
}  // namespace dormouse
