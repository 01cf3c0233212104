#include "kernel/proc/directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/format.h"
#include "base/parallel.h"
#include "base/text.h"
#include "kernel/proc/smaps.h"

namespace dormouse::proc {

namespace {

template <class T>
Result<std::vector<T>> numbers_in(int dir, sys::Path name) {
  std::vector<T> numbers;
  for (const auto all = TRY(sys::list_directory(dir, name)); const auto& entry : all)
    if (const auto number = parse_number<T>(entry.name)) numbers.push_back(*number);
  return numbers;
}

}  // namespace

// ESRCH and ENOENT from a file that every process has mean that the process is gone. A file that this
// kernel does not have at all gives ENOENT too, so the directory itself is asked.
Failure ProcDir::died_or(Error error) const {
  if (error.is_kernel(ESRCH) ||
      (error.is_kernel(ENOENT) && !sys::faccessat(fd_.get(), "stat", F_OK)))
    return fail(Error::task_died(format("pid {} is gone", pid_)));
  return fail(std::move(error));
}

Result<ProcDir> ProcDir::open(pid_t pid, int proc) {
  const std::string name =
      proc == AT_FDCWD ? format("/proc/{}", pid) : std::to_string(pid);
  auto fd = sys::openat(proc, name, O_RDONLY | O_DIRECTORY);
  if (!fd) {
    if (fd.error().is_kernel(ENOENT)) return fail(Error::task_died(format("there is no pid {}", pid)));
    return fail(std::move(fd).error());
  }
  return ProcDir(std::move(*fd), pid);
}

Result<ProcDir> ProcDir::self() { return open(::getpid()); }

Result<ProcDir> ProcDir::thread(pid_t tid) const {
  return ProcDir(TRY(open_at(format("task/{}", tid), O_RDONLY | O_DIRECTORY)), tid);
}

Result<Fd> ProcDir::open_at(sys::Path name, int flags) const {
  auto fd = sys::openat(fd_.get(), name, flags);
  if (!fd) return died_or(std::move(fd).error());
  return fd;
}
Result<std::string> ProcDir::read(sys::Path name) const {
  auto text = sys::read_file(fd_.get(), name);
  if (!text) return died_or(std::move(text).error());
  return text;
}
Result<std::string> ProcDir::read_link(sys::Path name) const {
  auto target = sys::readlinkat(fd_.get(), name);
  if (!target) return died_or(std::move(target).error());
  return target;
}

Result<std::vector<pid_t>> ProcDir::threads() const {
  auto tids = numbers_in<pid_t>(fd_.get(), "task");
  if (!tids) return died_or(std::move(tids).error());
  // A directory that is listed while its process dies comes out empty.
  if (tids->empty()) return fail(Error::task_died(format("pid {} is gone", pid_)));
  return tids;
}

Result<std::vector<pid_t>> ProcDir::children(pid_t tid) const {
  std::vector<pid_t> pids;
  const std::string text = TRY(read(format("task/{}/children", tid)));
  for (const auto word : split_blanks(text))
    if (const auto pid = parse_number<pid_t>(word)) pids.push_back(*pid);
  return pids;
}
Result<std::vector<pid_t>> ProcDir::children() const {
  const auto all = TRY(threads());
  std::vector<std::vector<pid_t>> of_threads(all.size());
  TRY(in_parallel(all.size(), [&](std::size_t i) -> Result<> {
    auto more = children(all[i]);
    // A thread may end between the listing and the reading; the process itself is checked by threads().
    if (!more && more.error().kind() != Error::Kind::kTaskDied && !more.error().is_kernel(ENOENT))
      return fail(std::move(more).error());
    if (more) of_threads[i] = std::move(*more);
    return {};
  }, 64));
  std::vector<pid_t> pids;
  for (const auto& some : of_threads) pids.insert(pids.end(), some.begin(), some.end());
  return pids;
}

Result<std::vector<int>> ProcDir::descriptors() const {
  auto numbers = numbers_in<int>(fd_.get(), "fd");
  if (!numbers) return died_or(std::move(numbers).error());
  std::ranges::sort(*numbers);
  return numbers;
}

Result<Status> ProcDir::status() const { return parse_status(TRY(read("status"))); }
Result<Stat> ProcDir::stat() const { return parse_stat(TRY(read("stat"))); }
Result<std::vector<Vma>> ProcDir::maps() const { return parse_maps(TRY(read("maps"))); }
Result<std::vector<Vma>> ProcDir::smaps(const WhileReading& work) const {
  const Fd file = TRY(open_at("smaps", O_RDONLY));
  auto all = read_smaps(file.get(), work);
  if (!all) return died_or(std::move(all).error().during("smaps"));
  return all;
}
Result<std::vector<MountInfo>> ProcDir::mountinfo() const {
  return parse_mountinfo(TRY(read("mountinfo")));
}
Result<FdInfo> ProcDir::fdinfo(int number) const {
  return parse_fdinfo(TRY(read(format("fdinfo/{}", number))));
}
Result<std::vector<CgroupMembership>> ProcDir::cgroup() const {
  return parse_cgroup(TRY(read("cgroup")));
}
Result<std::vector<IdRange>> ProcDir::uid_map() const { return parse_id_map(TRY(read("uid_map"))); }
Result<std::vector<IdRange>> ProcDir::gid_map() const { return parse_id_map(TRY(read("gid_map"))); }
Result<TimeOffsets> ProcDir::timens_offsets() const {
  auto text = read("timens_offsets");
  if (!text && text.error().is_kernel(ENOENT))
    return fail(Error::unsupported("this kernel has no time namespaces"));
  return parse_timens_offsets(TRY(std::move(text)));
}
Result<std::array<Limit, kLimitCount>> ProcDir::limits() const {
  return parse_limits(TRY(read("limits")));
}
Result<std::vector<std::uint64_t>> ProcDir::auxv() const { return parse_auxv(TRY(read("auxv"))); }

}  // namespace dormouse::proc
