#include "kernel/scheduling.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "base/format.h"
#include "base/text.h"
#include "kernel/call.h"

namespace dormouse::sys {
namespace {

constexpr unsigned kMostCpus = 8192;

void trim_zeros(CpuSet& set) {
  while (!set.empty() && set.back() == '\0') set.pop_back();
}

}  // namespace

Result<SchedAttrWithBounds> sched_getattr_with_bounds(pid_t tid) {
  SchedAttrWithBounds attr;
  TRY(done("sched_getattr", [&] { return ::syscall(SYS_sched_getattr, tid, &attr, sizeof attr, 0); }));
  return attr;
}

Result<CpuSet> sched_getaffinity(pid_t tid) {
  std::array<char, kMostCpus / 8> buffer{};
  const long bytes = TRY(value("sched_getaffinity", [&] {
    return ::syscall(SYS_sched_getaffinity, tid, buffer.size(), buffer.data());
  }));
  CpuSet set(buffer.data(), static_cast<std::size_t>(bytes));
  trim_zeros(set);
  return set;
}

Result<CpuSet> parse_cpu_list(std::string_view text) {
  CpuSet set;
  for (const std::string_view range : split(trim(text), ',')) {
    if (range.empty()) continue;
    std::string_view rest = range;
    const auto first = parse_number<unsigned>(take_until(rest, '-'));
    const auto last = range.contains('-') ? parse_number<unsigned>(rest) : first;
    if (!first || !last || *first > *last || *last >= kMostCpus)
      return fail(Error::unsupported(format("'{}' is not a list of CPUs", text)));
    if (set.size() <= *last / 8) set.resize(*last / 8 + 1);
    for (unsigned cpu = *first; cpu <= *last; ++cpu)
      set[cpu / 8] = static_cast<char>(static_cast<unsigned char>(set[cpu / 8]) | 1u << (cpu % 8));
  }
  return set;
}

bool covers(const CpuSet& set, const CpuSet& wanted) {
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const unsigned have = i < set.size() ? static_cast<unsigned char>(set[i]) : 0u;
    if (static_cast<unsigned char>(wanted[i]) & ~have) return false;
  }
  return true;
}

Result<int> nice_of(pid_t tid) {
  // The system call tells 20 less the value, so as never to be negative.
  const long told = TRY(value("getpriority", [&] { return ::syscall(SYS_getpriority, PRIO_PROCESS, tid); }));
  return static_cast<int>(20 - told);
}

Result<std::uint32_t> ioprio_get(pid_t tid) {
  const long priority = TRY(value("ioprio_get", [&] { return ::syscall(SYS_ioprio_get, abi::kIoPriorityOfProcess, tid); }));
  return static_cast<std::uint32_t>(priority);
}

}  // namespace dormouse::sys
