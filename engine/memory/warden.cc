#include "engine/memory/warden.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/format.h"
#include "base/text.h"
#include "kernel/file.h"
#include "kernel/proc/directory.h"
#include "kernel/process.h"
#include "kernel/wait.h"

namespace dormouse::engine {
namespace {

constexpr const char* kProcessName = "dormouse-track";  // at most 15 bytes
constexpr const char* kRecordName = "dormouse-tracking";
constexpr std::uint64_t kRecordMagic = 0x31'6b'63'61'72'74'6d'64;
constexpr std::size_t kGenerationBytes = 32;
constexpr std::uint32_t kMostTasks = 1 << 22;

// The record's content: a head, then `count` lines, then `calls` calls.
struct Head {
  std::uint64_t magic = kRecordMagic;
  char generation[kGenerationBytes] = {};
  std::uint32_t count = 0, calls = 0;
};
struct Line {
  std::int32_t pid = 0, userfaultfd = -1;
  std::uint64_t start_time_ticks = 0;
};
static_assert(sizeof(Head) == 48 && sizeof(Line) == 16 && sizeof(InterruptedCall) == 32);

// Everything but the descriptors in `keep` (ascending) is closed. Only system calls from here on: the
// process is a copy of the engine, whose memory is in an arbitrary state.
void close_others(const std::vector<int>& keep) {
  unsigned next = 0;
  for (const int fd : keep) {
    const auto number = static_cast<unsigned>(fd);
    if (number > next) ::syscall(SYS_close_range, next, number - 1, 0);
    next = number + 1;
  }
  ::syscall(SYS_close_range, next, ~0u, 0);
}

[[noreturn]] void watch(std::vector<pollfd>& tasks, const std::vector<int>& keep) {
  // Nobody's terminal, current directory or name.
  ::setsid();
  ::prctl(PR_SET_NAME, kProcessName);
  (void)!::chdir("/");
  close_others(keep);
  std::size_t alive = tasks.size();
  while (alive > 0) {
    if (::poll(tasks.data(), tasks.size(), -1) < 0 && errno != EINTR) break;
    for (pollfd& task : tasks) {
      if (task.fd < 0 || task.revents == 0) continue;
      task.fd = -1;
      --alive;
    }
  }
  ::_exit(0);
}

bool same_namespace(const proc::ProcDir& one, const proc::ProcDir& other, const char* name) {
  const auto a = one.read_link(name), b = other.read_link(name);
  return a && b && *a == *b;
}

Result<Fd> find_record(const proc::ProcDir& dir, int pidfd) {
  for (const auto numbers = TRY(dir.descriptors()); const int number : numbers) {
    const std::string link = TRY(dir.read_link(format("fd/{}", number)));
    if (link == format("/memfd:{} (deleted)", kRecordName)) return sys::pidfd_getfd(pidfd, number);
  }
  return fail(Error::unsupported("it holds no record"));
}

}  // namespace

Result<Warden> Warden::open(pid_t pid) {
  Warden warden;
  warden.pidfd_ = TRY(sys::pidfd_open(pid));
  const auto dir = TRY(proc::ProcDir::open(pid));
  const auto self = TRY(proc::ProcDir::self());
  // A container's process might take the name; but it lives elsewhere.
  if (!same_namespace(dir, self, "ns/pid") || !same_namespace(dir, self, "ns/user") ||
      TRY(dir.status()).uid[1] != ::geteuid())
    return fail(Error::unsupported("it is not one of ours"));
  warden.record_ = TRY(find_record(dir, warden.pidfd_.get()));
  Head head;
  TRY(sys::pread_exactly(warden.record_.get(), std::as_writable_bytes(std::span(&head, 1)), 0));
  if (head.magic != kRecordMagic || head.count > kMostTasks || head.calls > kMostTasks)
    return fail(Error::unsupported("its record is of another version"));
  std::vector<Line> lines(head.count);
  TRY(sys::pread_exactly(warden.record_.get(), std::as_writable_bytes(std::span(lines)), sizeof head));
  warden.calls_.resize(head.calls);
  TRY(sys::pread_exactly(warden.record_.get(), std::as_writable_bytes(std::span(warden.calls_)),
                         sizeof head + lines.size() * sizeof(Line)));
  if (head.generation[0] != 0) warden.generation_.assign(head.generation, kGenerationBytes);
  for (const Line& line : lines) warden.entries_.push_back({line.pid, line.start_time_ticks, line.userfaultfd});
  return warden;
}

std::vector<Warden> Warden::find_all() {
  std::vector<Warden> all;
  const auto entries = sys::list_directory(AT_FDCWD, "/proc");
  if (!entries) return all;
  for (const sys::DirectoryEntry& entry : *entries) {
    const auto pid = parse_number<pid_t>(entry.name);
    if (!pid) continue;
    const auto name = sys::read_file(AT_FDCWD, format("/proc/{}/comm", *pid));
    if (!name || trim(*name) != kProcessName) continue;
    if (auto warden = open(*pid)) all.push_back(std::move(*warden));
  }
  return all;
}

Result<> Warden::start(const std::string& generation, const std::vector<TrackedTask>& tasks,
                       const std::vector<InterruptedCall>& calls) {
  Fd record = TRY(sys::memfd_create(kRecordName));
  Head head;
  head.count = static_cast<std::uint32_t>(tasks.size());
  head.calls = static_cast<std::uint32_t>(calls.size());
  std::memcpy(head.generation, generation.data(), std::min(generation.size(), kGenerationBytes));
  std::vector<Line> lines;
  std::vector<pollfd> polled;
  std::vector<int> keep{record.get()};
  for (const TrackedTask& task : tasks) {
    lines.push_back({task.pid, task.userfaultfd.get(), task.start_time_ticks});
    polled.push_back({task.pidfd.get(), POLLIN, 0});
    keep.push_back(task.pidfd.get());
    if (task.userfaultfd) keep.push_back(task.userfaultfd.get());
  }
  std::sort(keep.begin(), keep.end());
  TRY(sys::pwrite_all(record.get(), std::as_bytes(std::span(&head, 1)), 0));
  TRY(sys::pwrite_all(record.get(), std::as_bytes(std::span(lines)), sizeof head));
  TRY(sys::pwrite_all(record.get(), std::as_bytes(std::span(calls)), sizeof head + lines.size() * sizeof(Line)));

  // Its end tells that the warden has its name and nothing but what it is to keep.
  sys::Pipe ready = TRY(sys::pipe2());
  // By way of a child that ends at once, so that it is nobody's child who could trip over its end.
  const pid_t between = TRY(sys::clone3({.exit_signal = SIGCHLD}));
  if (between == 0) {
    const auto warden = sys::clone3({.exit_signal = SIGCHLD});
    if (warden && *warden == 0) watch(polled, keep);
    ::_exit(warden ? 0 : 1);
  }
  ready.write_end.reset();
  int status = 0;
  while (::waitpid(between, &status, 0) < 0 && errno == EINTR) {}
  if (status != 0) return fail(Error::kernel("clone3", EAGAIN).object("the process that keeps page tracking"));
  (void)sys::wait_for(ready.read_end.get(), POLLIN, sys::Deadline::in(std::chrono::seconds(5)));
  return {};
}

const Warden::Entry* Warden::entry(pid_t pid, std::uint64_t start_time_ticks) const {
  for (const Entry& entry : entries_)
    if (entry.pid == pid && entry.start_time_ticks == start_time_ticks) return &entry;
  return nullptr;
}

bool Warden::tracks(pid_t pid, std::uint64_t start_time_ticks) const { return entry(pid, start_time_ticks); }

Result<Fd> Warden::userfaultfd(pid_t pid, std::uint64_t start_time_ticks) const {
  const Entry* found = entry(pid, start_time_ticks);
  if (!found || found->userfaultfd < 0) return Fd();
  return sys::pidfd_getfd(pidfd_.get(), found->userfaultfd);
}

Result<> Warden::invalidate() {
  generation_.clear();
  const std::array<char, kGenerationBytes> none{};
  return sys::pwrite_all(record_.get(), std::as_bytes(std::span(none)), offsetof(Head, generation));
}

Result<> Warden::end() {
  const Result<> killed = sys::pidfd_send_signal(pidfd_.get(), SIGKILL);
  if (!killed && !killed.error().is_kernel(ESRCH)) return killed;
  if (!TRY(sys::wait_for(pidfd_.get(), POLLIN, sys::Deadline::in(std::chrono::seconds(5)))))
    return fail(Error::kernel("wait", ETIMEDOUT).object("the process that keeps page tracking"));
  return {};
}

}  // namespace dormouse::engine
