#include "shim/oci_worker.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <optional>

#include "kernel/process.h"
#include "kernel/socket.h"
#include "oci/json.h"

namespace dormouse::shim {
namespace {

// One packet each way. A failure of many blockers is told in part; the log has them all.
constexpr std::size_t kMaxMessageBytes = 128u << 10;
constexpr std::size_t kMaxFailures = 20;
constexpr std::size_t kMaxFailureBytes = 2000;

Result<> send_text(int channel, std::string_view text, int descriptor = -1) {
  const auto bytes = std::as_bytes(std::span(text));
  const std::array fds = {descriptor};
  return sys::send_with_fds(channel, bytes, std::span(fds).first(descriptor >= 0 ? 1 : 0));
}

struct Packet {
  std::string text;  // empty: the other side is gone
  Fd descriptor;
};
Result<Packet> receive(int channel) {
  auto message = TRY(sys::recv_with_fds(channel, kMaxMessageBytes, 1));
  Packet packet;
  packet.text.assign(reinterpret_cast<const char*>(message.bytes.data()), message.bytes.size());
  if (!message.fds.empty()) packet.descriptor = std::move(message.fds.front());
  return packet;
}

Result<oci::Document> parse(std::string_view text) {
  return oci::Document::parse(text, "message of the restore's worker", "");
}

bool asks_to_end(int signal) {
  return signal == SIGHUP || signal == SIGINT || signal == SIGQUIT || signal == SIGTERM;
}

// --- the worker's side ---

Result<> ask(int channel, const engine::Notification& stage) {
  const auto text = oci::ObjectWriter().add("stage", stage.stage).add("pid", std::int64_t{stage.root_pid}).text();
  TRY(send_text(channel, text, stage.descriptor));
  const Packet packet = TRY(receive(channel));
  if (packet.text.empty()) return fail(Error::conflict("the runtime is gone", EPIPE));
  const auto document = TRY(parse(packet.text));
  std::string refusal;
  TRY(document.root().read("refused", refusal));
  if (refusal.empty()) return {};
  return fail(Error::conflict(refusal, ECANCELED));
}

std::string outcome_text(const RestoreResult& outcome) {
  if (outcome) return oci::ObjectWriter().add("restored", std::int64_t{outcome->root_pid}).text();
  std::vector<std::string> failures;
  for (const Error& error : outcome.error().all)
    if (failures.size() < kMaxFailures) failures.push_back(error.message().substr(0, kMaxFailureBytes));
  return oci::ObjectWriter().add("failures", failures).add("count", std::uint64_t{outcome.error().all.size()}).text();
}

[[noreturn]] void be_worker(const std::function<RestoreResult(const engine::Notify&)>& work, const Fd& channel,
                            const SignalReader& signals) {
  ::sigprocmask(SIG_SETMASK, &signals.original_mask(), nullptr);
  const auto outcome = work([&](const engine::Notification& stage) { return ask(channel.get(), stage); });
  (void)send_text(channel.get(), outcome_text(outcome));
  // Not exit(): what our copies of the runtime's objects would clean up is the runtime's.
  ::_exit(outcome ? 0 : 1);
}

}  // namespace

Result<RestoreWorker> RestoreWorker::start(const std::function<RestoreResult(const engine::Notify&)>& work,
                                           const SignalReader& signals) {
  auto pair = TRY(sys::socketpair(AF_UNIX, SOCK_SEQPACKET));
  const pid_t pid = ::fork();
  if (pid < 0) return fail(Error::kernel("fork", errno));
  if (pid == 0) {
    pair.one.reset();
    be_worker(work, pair.other, signals);
  }
  return RestoreWorker(pid, std::move(pair.one));
}

RestoreWorker::RestoreWorker(RestoreWorker&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)), channel_(std::move(other.channel_)) {}

RestoreWorker::~RestoreWorker() {
  if (pid_ == 0) return;
  // Our child, not yet reaped: the pid is still its own.
  (void)sys::kill(pid_, SIGKILL);
  (void)sys::waitid(P_PID, static_cast<id_t>(pid_), WEXITED);
}

Error RestoreWorker::how_it_ended() {
  const auto end = sys::waitid(P_PID, static_cast<id_t>(std::exchange(pid_, 0)), WEXITED);
  if (!end || !*end) return Error::task_died("the restore's worker died");
  if ((*end)->code == CLD_EXITED)
    return Error::task_died(format("the restore's worker exited with status {} without a word", (*end)->status));
  return Error::task_died(format("the restore's worker was killed by signal {}", (*end)->status))
      .remedy("was it too much for the container's memory limit?");
}

Result<pid_t> RestoreWorker::outcome_of(std::string_view message) {
  const auto document = TRY(parse(message));
  const oci::Node root = document.root();
  pid_t restored = 0;
  TRY(root.read("restored", restored));
  if (restored > 0) return restored;
  std::vector<std::string> failures;
  std::uint64_t count = 0;
  TRY(root.read("failures", failures));
  TRY(root.read("count", count));
  if (failures.empty()) return fail(Error::conflict("failed without telling why", EIO));
  Error first = Error::conflict(failures.front(), ECANCELED);
  if (count <= 1) return fail(std::move(first));
  return fail(std::move(first).remedy(format("and {} more, see the log", count - 1)));
}

Result<> RestoreWorker::answer(std::string_view message, const engine::Notify& watcher, int descriptor) {
  const auto document = TRY(parse(message));
  engine::Notification stage;
  TRY(document.root().need("stage", stage.stage));
  TRY(document.root().need("pid", stage.root_pid));
  stage.descriptor = descriptor;
  const auto answered = watcher(stage);
  oci::ObjectWriter reply;
  if (!answered) reply.add("refused", answered.error().message().substr(0, kMaxFailureBytes));
  return send_text(channel_.get(), reply.text());
}

Result<pid_t> RestoreWorker::serve(const engine::Notify& watcher, const SignalReader& signals) {
  // Once its state is known the container gets the signals, and has to be waited for.
  int interruptions = signals.fd();
  const engine::Notify watch = [&](const engine::Notification& stage) {
    if (stage.stage == "post-restore") interruptions = -1;
    return watcher(stage);
  };
  for (;;) {
    std::array<pollfd, 2> files = {pollfd{channel_.get(), POLLIN, 0}, pollfd{interruptions, POLLIN, 0}};
    if (::poll(files.data(), files.size(), -1) < 0 && errno != EINTR) return fail(Error::kernel("poll", errno));
    if (files[1].revents && asks_to_end(signals.next())) return fail(Error::conflict("interrupted by a signal", EINTR));
    if (!files[0].revents) continue;
    auto packet = receive(channel_.get());
    if (!packet || packet->text.empty()) return fail(how_it_ended());
    if (packet->text.starts_with("{\"stage\"")) {
      TRY(answer(packet->text, watch, packet->descriptor.get()));
      continue;
    }
    (void)how_it_ended();  // reaps
    return outcome_of(packet->text);
  }
}

}  // namespace dormouse::shim
