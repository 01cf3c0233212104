#include "cgroups/freezer.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>

#include "base/format.h"
#include "base/text.h"
#include "kernel/file.h"
#include "kernel/wait.h"

namespace dormouse::cgroups {

namespace {

constexpr std::string_view word_for(Freezer::Version version, bool frozen) {
  if (version == Freezer::Version::kV1) return frozen ? "FROZEN" : "THAWED";
  return frozen ? "1" : "0";
}

// cgroup.events is a list of "key value" lines; it becomes POLLPRI-readable when one changes.
Result<bool> reported_frozen(int events) {
  TRY(sys::lseek(events, 0, SEEK_SET));
  const std::string text = TRY(sys::read_all(events));
  for (const auto line : split(text, '\n'))
    if (line.starts_with("frozen ")) return line == "frozen 1";
  return fail(Error::unsupported("cgroup.events does not tell whether the cgroup is frozen"));
}

// Whether the group itself was asked to freeze, as opposed to one above it.
Result<bool> frozen_by_itself(int directory, Freezer::Version version) {
  if (version == Freezer::Version::kV2) {
    const std::string state = TRY(sys::read_file(directory, "cgroup.freeze"));
    return trim(state) == "1";
  }
  const auto self = sys::read_file(directory, "freezer.self_freezing");  // Linux 3.8
  if (self) return trim(*self) == "1";
  const std::string state = TRY(sys::read_file(directory, "freezer.state"));
  return trim(state) != "THAWED";
}

Result<bool> frozen_by_parent(int directory, Freezer::Version version) {
  if (version == Freezer::Version::kV1) {
    const auto parent = sys::read_file(directory, "freezer.parent_freezing");
    return parent && trim(*parent) == "1";
  }
  // There is no such file in v2. A group that is thawed but stays frozen is held from above; it would
  // have reported otherwise within the write that thawed it.
  const Fd events = TRY(sys::openat(directory, "cgroup.events", O_RDONLY));
  return reported_frozen(events.get());
}

// All ids in `file` of this group and of the groups below it. Groups may come and go meanwhile.
Result<> collect(int directory, const char* file, std::vector<pid_t>& ids) {
  const auto gone = [](const Error& error) { return error.is_kernel(ENODEV) || error.is_kernel(ENOENT); };
  const auto text = sys::read_file(directory, file);
  if (!text) {
    if (gone(text.error())) return {};
    return fail(text.error());
  }
  for (const auto line : split(*text, '\n'))
    // 0 stands for a task outside of our pid namespace: nothing that we could hold.
    if (const auto id = parse_number<pid_t>(line); id && *id > 0) ids.push_back(*id);

  for (const auto all = TRY(sys::list_directory(directory, ".")); const auto& entry : all) {
    if (entry.type != DT_DIR) continue;
    const auto child = sys::openat(directory, entry.name, O_RDONLY | O_DIRECTORY);
    if (!child) {
      if (gone(child.error())) continue;
      return fail(child.error());
    }
    TRY(collect(child->get(), file, ids));
  }
  return {};
}

}  // namespace

Result<Freezer> Freezer::open(const std::string& directory) {
  const auto told = [&](Error error) { return std::move(error).object(format("freezer cgroup {}", directory)); };
  Freezer freezer;
  freezer.path_ = directory;
  freezer.directory_ =
      TRY_OR(sys::openat(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY), told(std::move(e)));
  const int dir = freezer.directory_.get();
  if (auto v1 = sys::openat(dir, "freezer.state", O_WRONLY)) {
    freezer.state_ = std::move(*v1);
  } else if (!v1.error().is_kernel(ENOENT)) {
    return fail(told(std::move(v1).error()));
  } else if (auto v2 = sys::openat(dir, "cgroup.freeze", O_WRONLY)) {
    freezer.version_ = Version::kV2;
    freezer.state_ = std::move(*v2);
  } else if (!v2.error().is_kernel(ENOENT)) {
    return fail(told(std::move(v2).error()));
  } else {
    return fail(told(Error::bad_option("there is neither freezer.state nor cgroup.freeze")));
  }
  freezer.was_frozen_ = freezer.is_frozen_ =
      TRY_OR(frozen_by_itself(dir, freezer.version_), told(std::move(e)));
  return freezer;
}

Freezer::~Freezer() {
  if (state_) (void)finish(Leave::kAsFound);
}

bool Freezer::is_of(int group) const {
  const auto ours = sys::fstat(directory_.get()), other = sys::fstat(group);
  return ours && other && ours->st_dev == other->st_dev && ours->st_ino == other->st_ino;
}

Result<> Freezer::set(bool frozen) {
  const auto told = [&](Error error) { return std::move(error).object(format("freezer cgroup {}", path_)); };
  if (!watchdog_)
    watchdog_ =
        TRY_OR(sys::Watchdog::start(state_.get(), word_for(version_, was_frozen_)), told(std::move(e)));
  const std::string_view word = word_for(version_, frozen);
  TRY_OR(sys::pwrite_all(state_.get(), std::as_bytes(std::span(word.data(), word.size())), 0),
         told(std::move(e).during(frozen ? "freezing" : "thawing")));
  is_frozen_ = frozen;
  return {};
}

Result<> Freezer::freeze(std::chrono::milliseconds timeout) {
  if (!is_frozen_) {
    const auto members = TRY(processes());
    if (std::ranges::find(members, ::getpid()) != members.end())
      return fail(Error::bad_option("the engine itself is in it")
                      .object(format("freezer cgroup {}", path_))
                      .remedy("start the engine outside of the cgroup that it has to freeze"));
    TRY(set(true));
  }
  if (version_ == Version::kV1) return {};

  const auto deadline = sys::Deadline::in(timeout);
  const Fd events = TRY(sys::openat(directory_.get(), "cgroup.events", O_RDONLY));
  while (!TRY(reported_frozen(events.get())))
    if (!TRY(sys::wait_for(events.get(), POLLPRI, deadline)))
      return fail(Error::unsupported(format("not frozen after {} ms", timeout.count()))
                      .object(format("freezer cgroup {}", path_))
                      .remedy("look for tasks in uninterruptible waits, or allow more with --timeout"));
  return {};
}

Result<> Freezer::thaw() {
  if (is_frozen_) TRY(set(false));
  if (TRY(frozen_by_parent(directory_.get(), version_)))
    return fail(Error::unsupported("a cgroup above it is frozen, too")
                    .object(format("freezer cgroup {}", path_))
                    .remedy("thaw that one, or name it as the cgroup to freeze"));
  return {};
}

Result<> Freezer::finish(Leave leave) {
  const bool frozen = leave == Leave::kAsFound && was_frozen_;
  if (is_frozen_ != frozen) TRY(set(frozen));
  watchdog_.dismiss();
  return {};
}

Result<std::vector<pid_t>> Freezer::list(const char* file) const {
  std::vector<pid_t> ids;
  TRY_OR(collect(directory_.get(), file, ids),
         std::move(e).object(format("freezer cgroup {}", path_)));
  return ids;
}
Result<std::vector<pid_t>> Freezer::threads() const {
  return list(version_ == Version::kV1 ? "tasks" : "cgroup.threads");
}
Result<std::vector<pid_t>> Freezer::processes() const { return list("cgroup.procs"); }

}  // namespace dormouse::cgroups
