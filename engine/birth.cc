#include "engine/birth.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/defer.h"
#include "base/format.h"
#include "base/text.h"
#include "kernel/abi.h"
#include "kernel/file.h"
#include "kernel/process.h"
#include "kernel/socket.h"

namespace dormouse::engine {
namespace {

// An error's way from the builder to the engine: kind, errno and the four texts, separated by zeros.
std::string encode(const Error& error) {
  std::string text = format("{} {}", static_cast<int>(error.kind()), error.err());
  for (const std::string* part : {&error.object(), &error.owner(), &error.reason(), &error.remedy()}) {
    text += '\0';
    text += *part;
  }
  return text;
}

Error decode(std::string_view text) {
  std::string parts[5];
  for (std::string& part : parts) {
    const auto zero = text.find('\0');
    part = text.substr(0, zero);
    text.remove_prefix(zero == std::string_view::npos ? text.size() : zero + 1);
  }
  // What the engine needs to know of it survives: the texts, and whether something was in the way.
  const int err = std::atoi(parts[0].c_str() + std::min<std::size_t>(parts[0].size(), 2));
  Error error = Error::conflict(std::move(parts[3]), err > 0 ? err : EIO);
  return std::move(error).object(std::move(parts[1])).owner(std::move(parts[2])).remedy(std::move(parts[4]));
}

constexpr std::string_view kDone = "done";
// Not made by the clone: time is unshared before it, and a cgroup namespace begins where its maker is when
// it makes it.
constexpr std::uint64_t kLater = abi::kCloneNewTime | CLONE_NEWCGROUP;

}  // namespace

Error pid_taken(pid_t pid) {
  const auto comm = sys::read_file(AT_FDCWD, format("/proc/{}/comm", pid));
  const std::string by = comm ? format(" by {}", trim(*comm)) : "";
  return Error::conflict(format("pid {} is taken on this node{}", pid, by), EEXIST)
      .object(format("process {}", pid)).owner("the image")
      .remedy("end the process that has it, or restore into a pid namespace");
}

Result<ServiceSockets> ServiceSockets::create(int first_number) {
  ServiceSockets sockets;
  for (Pair& lane : sockets.lanes) {
    auto pair = TRY(sys::socketpair(AF_UNIX, SOCK_SEQPACKET));
    lane = {std::move(pair.one), std::move(pair.other)};
  }
  sockets.first_number = first_number;
  return sockets;
}

Birth::~Birth() {
  if (pid_ <= 0) return;
  (void)sys::kill(pid_, SIGKILL);
  // With --restore-sibling it is its requester's child and stays that one's zombie.
  int status = 0;
  while (::waitpid(pid_, &status, __WALL) < 0 && errno == EINTR) {}
}

Result<> Birth::clone(const NamespacePlan& plan, parasite::Puppet& puppet) {
  TRY(yard_.prepare(puppet.slot, true));
  slot_ = puppet.slot;
  MountPlan mounts = TRY(plan_mounts(context_));
  TRY(open_archives(context_, mounts));
  const pid_t ns_pid = puppet.ns_tid;
  // Before Linux 6.3 a process whose children are to have another time can make no threads, nor others that share its memory.
  Fd own_time;
  Defer back_in_time{[&] { if (own_time) (void)sys::setns(own_time.get(), static_cast<int>(abi::kCloneNewTime)); }};
  if (plan.create & abi::kCloneNewTime) {
    own_time = TRY(sys::openat(AT_FDCWD, "/proc/self/ns/time", O_RDONLY));
    TRY(sys::unshare(static_cast<int>(abi::kCloneNewTime)));
    TRY(write_time_offsets(context_));
  }
  // A pid namespace is entered by children only.
  const Fd own_pids = TRY(sys::openat(AT_FDCWD, "/proc/self/ns/pid", O_RDONLY));
  Defer back{[&] { (void)sys::setns(own_pids.get(), CLONE_NEWPID); }};
  for (const auto& [fd, kind] : plan.enter)
    if (kind == CLONE_NEWPID) TRY(sys::setns(fd.get(), CLONE_NEWPID));
  abi::CloneArgs args;
  args.flags = (plan.create & ~kLater) | abi::kCloneClearSighand | (context_.options.as_sibling ? CLONE_PARENT : 0);
  args.exit_signal = context_.options.as_sibling ? 0 : SIGCHLD;
  args.set_tid = reinterpret_cast<std::uint64_t>(&ns_pid);
  args.set_tid_size = 1;
  Result<pid_t> pid = sys::clone3(args);
  if (!pid) {
    if (pid.error().is_kernel(EEXIST))
      return fail(pid_taken(ns_pid));
    return fail(std::move(pid).error().object(puppet.name).remedy("are all privileges there?"));
  }
  if (*pid == 0) live(plan, mounts);
  pid_ = *pid;
  puppet.tid = pid_;
  for (auto& lane : service_.lanes) lane.theirs.reset();  // so that its end is seen
  if (plan.create & CLONE_NEWUSER) TRY(write_user_maps(context_, pid_));
  return yard_.seize(puppet);
}

Result<> Birth::build() {
  TRY(sys::send_with_fds(service_.ours(0), std::as_bytes(std::span("go", 2)), {}));
  const auto answer = TRY(sys::recv_with_fds(service_.ours(0), 16384));
  const std::string_view text(reinterpret_cast<const char*>(answer.bytes.data()), answer.bytes.size());
  if (text == kDone) return {};
  if (text.empty()) return fail(Error::task_died("the root task ended while it was being built"));
  return fail(decode(text));
}

// In the child, which is a copy of the engine and may still use all of C++.
void Birth::live(const NamespacePlan& plan, MountPlan& mounts) {
  for (auto& lane : service_.lanes) lane.ours.reset();
  const auto go = sys::recv_with_fds(service_.theirs(0), 16);
  if (!go || go->bytes.empty()) ::_exit(1);
  const Result<> prepared = prepare(plan, mounts);
  const std::string answer = prepared ? std::string(kDone) : encode(prepared.error());
  for (std::size_t lane = 0; prepared && lane < service_.lanes.size(); ++lane)
    if (!sys::dup3(service_.theirs(lane), service_.number(lane), 0)) ::_exit(1);
  const auto sent = sys::send_with_fds(service_.theirs(0), std::as_bytes(std::span(answer)), {});
  if (!prepared || !sent) ::_exit(1);
  yard_.become(slot_, service_.first_number, service_.last_number());
}

Result<> Birth::prepare(const NamespacePlan& plan, MountPlan& mounts) {
  // Descriptors are installed under their old numbers before limits are restored.
  ::rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &files);
  }
  for (const auto& [fd, kind] : plan.enter)
    if (kind != CLONE_NEWPID) TRY(sys::setns(fd.get(), static_cast<int>(kind)));
  if (plan.create & CLONE_NEWCGROUP) TRY(sys::unshare(CLONE_NEWCGROUP));
  TRY(open_sources(context_, mounts));
  TRY(fill_namespaces(context_, plan));
  if (!mounts.steps.empty()) TRY(build_mounts(context_, mounts));
  return {};
}

}  // namespace dormouse::engine
